// The stepper's arithmetic; tests/browser/test_stepper.py compares whole receipts with Python's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loss_note } from "../stepper/parts.ts";
import { erf, shown } from "../stepper/receipt.ts";

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
