// Words of the glossary where a page first uses them: each a button that tells its meaning under the mouse and at the focus.
import { make } from "../chrome.ts";

export type Glossary = Record<string, string>;

/** How a word is written in a sentence. */
const written: Record<string, RegExp> = { "residual stream": /\b(?:residual )?stream\b/i, logit: /\blogits?\b/i };

const pattern = (word: string): RegExp => written[word] ?? new RegExp(`\\b${word}\\b`);

/** A text cut where it first uses words that were not seen yet, [text, word or ""]; the words are seen then. */
export function terms(text: string, glossary: Glossary, seen: Set<string>): [string, string][] {
  const found = Object.keys(glossary).filter((word) => !seen.has(word)).flatMap((word) => { const at = pattern(word).exec(text); return at ? [{ word, from: at.index, to: at.index + at[0].length }] : []; }).sort((a, b) => a.from - b.from);
  const parts: [string, string][] = [];
  let done = 0;
  for (const { word, from, to } of found) {
    if (from < done) continue;
    seen.add(word);
    parts.push([text.slice(done, from), ""], [text.slice(from, to), word]);
    done = to;
  }
  return [...parts, [text.slice(done), ""] as [string, string]].filter(([words]) => words);
}

/** The parts as nodes. */
export const term_nodes = (parts: [string, string][], glossary: Glossary): (string | HTMLElement)[] => parts.map(([words, word]) => (word ? term(words, glossary[word]!) : words));

function term(words: string, meaning: string): HTMLElement {
  const el = make("button", "gv-term", words);
  el.type = "button";
  el.dataset.meaning = meaning;
  el.setAttribute("aria-description", meaning);
  return el;
}

/** All words with their meanings, for the help. */
export function glossary_list(glossary: Glossary): HTMLElement {
  const list = make("dl", "gv-glossary");
  for (const [word, meaning] of Object.entries(glossary)) list.append(make("dt", "", word), make("dd", "", meaning));
  return list;
}
