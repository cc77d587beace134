// Build the front end: node build.mjs [--tests | --out DIR]. One bundle, because a widget's module cannot import.
import { build } from "esbuild";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv.includes("--out") ? process.argv[process.argv.indexOf("--out") + 1] : join(here, "../gptviz/static");

// "gptviz:views" is every file in views/: a new view is a new file there and no line elsewhere.
const all_views = {
  name: "all-views",
  setup(it) {
    it.onResolve({ filter: /^gptviz:views$/ }, () => ({ path: "views", namespace: "all-views" }));
    it.onLoad({ filter: /.*/, namespace: "all-views" }, () => {
      const files = readdirSync(join(here, "views")).filter((name) => name.endsWith(".ts")).sort();
      const lines = files.map((name, i) => `import { panels as p${i} } from "./views/${name}";`);
      lines.push(`export const panels = [${files.map((_, i) => `...p${i}`).join(", ")}];`);
      return { contents: lines.join("\n"), resolveDir: here, loader: "ts" };
    });
  },
};

const shared = { bundle: true, format: "esm", target: "es2022", plugins: [all_views], logLevel: "warning", absWorkingDir: here };
if (process.argv.includes("--tests")) {
  const tests = readdirSync(join(here, "test")).filter((name) => name.endsWith(".test.ts"));
  await build({ ...shared, entryPoints: tests.map((name) => `test/${name}`), outdir: "node_modules/.tests", platform: "node" });
} else {
  await build({ ...shared, entryPoints: { board: "index.ts" }, outdir: out, minify: true, charset: "utf8", legalComments: "none" });
  await build({ ...shared, entryPoints: { board: "board.css" }, outdir: out, minify: true });
}
