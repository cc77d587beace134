// Which views belong to a step and a text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Frames } from "../frames.ts";
import type { RawBoard, RawFrame, RawView } from "../payload.ts";

const view = (kind: string, value: number, content?: object): RawView =>
  ({ kind, title: "", subtitle: "", labels: {}, units: {}, range: {}, checks: [], content, arrays: { n: { dtype: "uint8", shape: [1], axes: ["one"], data: new Uint8Array([value]) } } });
const board = (views: RawView[], frames?: RawFrame[]): RawBoard =>
  ({ text: "a", views, frames, steps: [1, 2], selection: { step: 1, layer: null, head: null, query: null, key: null } }) as unknown as RawBoard;
const value = (views: { arrays: any }[] | undefined, at = 0): number | undefined => views?.[at]?.arrays.n.values[0];

test("a page's frames are decoded when they are looked at, and repeat what has not changed", () => {
  const frames = new Frames(), own = frames.begin(board([view("heads", 7), view("loss", 8)], [{ step: 2, text: "a", views: [view("heads", 9), null] }]));
  const second = frames.at(2)!;
  assert.deepEqual([value(second), second[1] === own[1], frames.at(2) === second, frames.at(1)], [9, true, true, undefined]);
});

test("a frame of another text takes the place of all before", () => {
  const frames = new Frames();
  frames.begin(board([view("heads", 7)]));
  assert.equal(value(frames.at(1)), 7);
  frames.take({ step: 1, text: "b", views: [view("heads", 3)] }, []);
  assert.deepEqual([frames.text, value(frames.at(1)), frames.at(2)], ["b", 3, undefined]);
});

test("a view of every step stays the same view, and the newest of its kind is shown at each", () => {
  const frames = new Frames(), whole = (n: number) => view("film", n, { every_step: true });
  frames.begin(board([whole(1)]));
  const [first] = frames.take({ step: 1, text: "a", views: [whole(1)] }, []), [again] = frames.take({ step: 2, text: "a", views: [whole(1)] }, []);
  assert.equal(first, again);
  frames.freshen([view("film", 5)], []);
  assert.equal(value(frames.newest([first!])), 5);
});
