declare module "gptviz:views" {
  import type { Panel } from "./panel.ts";
  export const panels: Panel[];
}
