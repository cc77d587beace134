// The stepper's arithmetic; tests/browser/test_stepper.py compares whole receipts with Python's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { columns_shown } from "../stepper/closeup.ts";
import { finding } from "../stepper/finding.ts";
import { loss_note, turned } from "../stepper/parts.ts";
import { aside, crowded_out } from "../stepper/plates.ts";
import { counted, erf, shown } from "../stepper/receipt.ts";
import { terms } from "../stepper/terms.ts";
import type { Walk } from "../stepper/walk.ts";

test("erf is the error function", () => {
  for (const [x, value] of [[0, 0], [0.5, 0.5204998778130465], [1, 0.8427007929497149], [2, 0.9953222650189527], [3, 0.9999779095030014], [-2.6, -0.9997639655834707], [7, 1]] as const)
    assert.ok(Math.abs(erf(x) - value) < 1e-14, `${x} ${erf(x)}`);
});

test("numbers of a receipt", () => {
  assert.deepEqual([shown(-0.31), shown(2.5e-6), shown(-Infinity), shown(NaN), shown(0)], ["−0.3100", "2.5e−6", "−∞", "NaN", "0.0000"]);
});

test("a mean loss that did not rise without a part is told for what it is", () => {
  assert.equal(loss_note({ id: "no_positions", loss: 4.3, true_loss: 2.9 }), "");
  assert.match(loss_note({ id: "no_positions", loss: 1.661, true_loss: 1.667 }), /hardly moves/);
  assert.match(loss_note({ id: "no_mask", loss: 1, true_loss: 2 }), /sees the tokens after it/);
  assert.match(loss_note({ id: "zero_mlp", loss: 1, true_loss: 2 }), /no better model/);
  assert.equal(loss_note({ id: "zero_mlp", loss: null, true_loss: 2 }), "");
});

test("integers are written as integers", () => {
  assert.deepEqual([counted(7), counted(-3), counted(0), counted(0.5), counted(-Infinity), counted(NaN)], ["7", "−3", "0", "0.5000", "−∞", "NaN"]);
});

test("a row shows all its columns where they fit, else the chosen one and the largest", () => {
  const row = [0.1, 5, 3, -Infinity, 4, 3, 2];
  assert.deepEqual(columns_shown(row, 3, 7), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(columns_shown(row, 3, 4), [3, 1, 4, 2]); // of equal ones the first
  assert.deepEqual(columns_shown(row, 1, 3), [1, 4, 2]);
  assert.deepEqual(columns_shown([1, 9, NaN, 8], 0, 3), [0, 2, 1]); // no number goes before any number
});

test("the labels of the chosen place and of the one under the mouse are always drawn, and not on each other", () => {
  for (let chosen = 0; chosen < 12; chosen++)
    for (let hover = -1; hover < 12; hover++) {
      const drawn = Array.from({ length: 12 }, (_, i) => i).filter((i) => !crowded_out(i, 3, [chosen, hover])), at = drawn.map((i) => 5 * i + aside(i, hover, chosen, 5, 14));
      for (const one of [chosen, hover]) if (one >= 0) assert.ok(drawn.includes(one), `${one} of ${drawn}`);
      if (hover >= 0 && hover !== chosen) assert.ok(Math.abs(at[drawn.indexOf(hover)]! - at[drawn.indexOf(chosen)]!) >= 14);
    }
  assert.deepEqual(Array.from({ length: 7 }, (_, i) => i).filter((i) => !crowded_out(i, 2, [3, -1])), [0, 3, 6]);
});

test("the first use of a word is cut out, later ones are not", () => {
  const glossary = { "residual stream": "a", nats: "b", logit: "c" }, seen = new Set(["nats"]);
  assert.deepEqual(terms("The stream in nats: two logits, a logit.", glossary, seen), [["The ", ""], ["stream", "residual stream"], [" in nats: two ", ""], ["logits", "logit"], [", a logit.", ""]]);
  assert.deepEqual(terms("The residual stream again", glossary, seen), [["The residual stream again", ""]]);
  assert.deepEqual(terms("", glossary, new Set()), []);
});

test("a token that is written right to left is shut off in the sentence of a stage", () => {
  const pass = { tokens: ["א", "b"], columns: ["b", "א"], content: { ids: [1, 0] }, row: () => [0.25, 0.75], value: () => 1.5 };
  const walk = (id: string) => ({ pass, place: { pos: 0, layer: 0, head: 0 }, now: { id, tensors: [id] }, hidden: false, focus: id, here: () => true, layer_of: () => 0 }) as unknown as Walk;
  assert.equal(finding(walk("logits")), "After ‘\u2068א\u2069’ the token ‘\u2068א\u2069’ has the largest logit: 0.7500.");
  assert.match(finding(walk("probs")), /likeliest next tokens are ‘\u2068א\u2069’ 0\.7500, ‘b’ 0\.2500\. What came was ‘b’/);
  assert.match(finding(walk("pattern")), /at ‘\u2068א\u2069’ reads most from ‘b’ at 1: 0\.7500 of 1, then from ‘\u2068א\u2069’ at 0/);
});

test("a transposed tensor has its last two axes changed over", () => {
  assert.deepEqual(turned([3, 11, 16]), [3, 16, 11]);
  assert.deepEqual(turned([144, 48]), [48, 144]);
});
