// Words and numbers, the same in every view.

export type Measure = (text: string, font: string) => number;

const minus = "\u2212", thin = "\u2009";

/** A number with fixed digits and a true minus, none before zeros; what is not finite by name. */
export function fixed(value: number, digits: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : `${minus}∞`;
  const words = value.toFixed(digits);
  return words.replace("-", /[1-9]/.test(words) ? minus : "");
}

export const smallest = 5e-4; // a smaller number is written with an exponent

/** A number with an exponent and so many decimals: 8.8e−6. */
export const exponential = (value: number, digits: number): string => value.toExponential(digits).replace(/-/g, minus);

/** How many decimals show at least two digits of a number of this size; `least` where that is enough. */
const decimals = (size: number, least: number): number => Math.max(least, 1 + Math.ceil(-Math.log10(size)));

/** One number with at least two digits that count: 12.34, 0.0021, 8.8e−6; 0 only where it is exactly 0. */
export function precise(value: number, digits = 2): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  return size < smallest ? exponential(value, 1) : fixed(value, Number.isFinite(size) ? decimals(size, digits) : digits);
}

/** A number of a table whose largest is `most`: all have the decimals that show two digits of the largest, to be compared at sight. */
export const in_table = (value: number, most: number, digits = 2): string =>
  most > 0 && most < smallest ? precise(value, digits) : fixed(value, most > 0 ? decimals(most, digits) : digits);

/** Whether a written number has no digit but zeros: it is drawn in the colour of 0. */
export const is_zero = (words: string): boolean => /^[^1-9∞N]*$/.test(words);

/** A weight for a cell: .91, 1.0. */
export const short = (p: number): string => (p >= 0.995 ? "1.0" : p.toFixed(2).replace(/^0/, ""));

/** The words of a change's size with its sign: +0.15, −.15; what its digits round to zero may be either, ±0.00. */
export function signed(value: number, size: string): string {
  if (!Number.isFinite(value)) return fixed(value, 0);
  return `${/[1-9]/.test(size) ? (value < 0 ? minus : "+") : "±"}${size}`;
}

/** A change with so many decimals and its sign. */
export const signed_fixed = (value: number, digits: number): string => signed(value, fixed(Math.abs(value), digits));

/** An integer with a thin space between thousands. */
export const whole = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, thin).replace("-", minus);

export const head_name = (layer: number, head: number): string => `L${layer}H${head}`;

/** What a token is that can be taken for another: "∅" is how one without text is drawn, and a real one is written out. */
export const meaning = (token: string): string => (token === "∅" ? "empty text" : "");

const turns = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** A token that is written right to left, or that holds a sign which turns the order, shut off so that the words around it keep theirs. */
export const isolated = (token: string): string => (turns.test(token) ? `\u2068${token}\u2069` : token);

/** A token of a sentence in its quotation marks, whole. */
export const in_quotes = (token: string): string => `‘${isolated(token)}’`;

/** ‘·Ada’, cut to so many signs in the middle of a sentence. */
export const quoted = (token: string, most = 24): string => `${in_quotes(clip_middle(token, most))}${meaning(token) && ` (${meaning(token)})`}`;

function clip_middle(token: string, longest: number): string {
  const signs = [...token];
  return signs.length <= longest ? token : `${signs.slice(0, longest - 1).join("")}…`;
}

/** The text, or as much of its start as fits in `width` with an ellipsis. A token may be 10,000 signs long. */
export function ellipsis(text: string, width: number, font: string, measure: Measure): string {
  const signs = [...text.slice(0, 400)];
  if (text.length <= 400 && measure(text, font) <= width) return text;
  let low = 0, high = signs.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${signs.slice(0, middle).join("")}…`, font) <= width) low = middle;
    else high = middle - 1;
  }
  return `${signs.slice(0, low).join("")}…`;
}

/** Lines no wider than `width`, broken at spaces. */
export function wrap(text: string, width: number, font: string, measure: Measure): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line ? `${line} ${word}` : word;
    if (line && measure(longer, font) > width) { lines.push(line); line = word; }
    else line = longer;
  }
  return [...lines, line].map((one) => ellipsis(one, width, font, measure));
}

/** Bytes in kB or MB. */
export const size = (bytes: number): string =>
  bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

/** What a page weighs: the file, as a list of files shows it, and what of it are numbers and words to show; the rest draws them. */
export const page_weight = (file: number, data: number): string => `this file is ${size(file)}, ${size(data)} of it data`;

/** Where a key stands to a query: a fact about the text, not about the head. */
export function relation(tokens: string[], query: number, key: number): string {
  if (key === query) return "itself";
  const back = query - key;
  const before = tokens.lastIndexOf(tokens[query]!, query - 1);
  if (query > 0 && before >= 0 && key === before + 1) return `the token that came after ${quoted(tokens[query]!)} last time`;
  if (tokens[key] === tokens[query]) return `the same token, ${back} back`;
  if (back === 1) return "the token before";
  return key === 0 ? "the first token" : `${back} tokens back`;
}
