// What Python sent: JSON with bytes. The same dict comes as a widget's state (bytes are DataViews), as a message
// (bytes are numbered buffers) and inside a page (bytes are base64).

export interface RawArray { dtype: string; shape: number[]; axes: string[]; data: unknown }
export interface Check { name: string; error: string; bound: string; passed: boolean }
export interface RawView {
  kind: string; title: string; subtitle: string; arrays: Record<string, RawArray>; labels: Record<string, string[]>;
  units: Record<string, string>; range: Record<string, [number, number]>; checks: Check[];
  content?: Record<string, any>; // what is neither array nor label
  detail_axes?: string[]; details?: Record<string, RawView>; // more of it where the reader looks; a page holds the details
}
export interface Selection {
  step: number | null; layer: number | null; head: number | null; query: number | null; key: number | null;
}
export interface RawFrame { step: number | null; text: string; views: (RawView | null)[] } // null: the board's own view
export interface RawBoard {
  schema: number; name: string; title: string; facts: string[]; steps: number[]; selection: Selection; text: string;
  limit: number | null; editable: boolean; cost: string; views: RawView[]; frames?: RawFrame[]; note?: string;
}

export type Values = Uint8Array | Int32Array | Float32Array;
export interface NumberArray { shape: number[]; axes: string[]; values: Values }
export interface View extends Omit<RawView, "arrays"> { arrays: Record<string, NumberArray> }

const types = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array } as const;

function from_base64(text: string): Uint8Array {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i); // Uint8Array.from with a function is far slower on 20 MB
  return bytes;
}

function bytes_of(data: unknown, buffers: DataView[]): Uint8Array {
  if (typeof data === "string") return from_base64(data);
  if (data instanceof DataView) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return bytes_of(buffers[(data as { buffer: number }).buffer], []);
}

export function decode_array(raw: RawArray, buffers: DataView[] = []): NumberArray {
  const type = types[raw.dtype as keyof typeof types];
  if (!type) throw new Error(`Array type must be ${Object.keys(types).join(", ")}; it is ${raw.dtype}.`);
  let bytes = bytes_of(raw.data, buffers);
  const length = raw.shape.reduce((a, b) => a * b, 1);
  if (bytes.byteLength !== length * type.BYTES_PER_ELEMENT)
    throw new Error(`An array of shape ${raw.shape} needs ${length * type.BYTES_PER_ELEMENT} bytes; it has ${bytes.byteLength}.`);
  if (bytes.byteOffset % type.BYTES_PER_ELEMENT) bytes = bytes.slice(); // typed arrays must start at a whole element
  return { shape: raw.shape, axes: raw.axes, values: new type(bytes.buffer as ArrayBuffer, bytes.byteOffset, length) };
}

export function decode_view(raw: RawView, buffers: DataView[] = []): View {
  const arrays = Object.entries(raw.arrays).map(([name, array]) => [name, decode_array(array, buffers)]);
  return { ...raw, arrays: Object.fromEntries(arrays) };
}
