import { expect, test } from "vitest";
import { OpenTransaction } from "../../connectors/kafka/sink/open-transaction.ts";

test("what the checkpoint keeps of an open transaction is enough to count on and to end it under its name", () => {
  const open = new OpenTransaction("");
  open.add(7n, "public.a");
  open.add(7n, "public.b");
  open.id = "77:7";
  open.timeMs = 1_700_000_000_000;
  for (const again of [new OpenTransaction(open.text), open.copy()]) {
    again.add(7n, "public.b");
    expect(again).toMatchObject({ isOpen: true, version: 7n, id: "77:7", timeMs: 1_700_000_000_000, total: 3 });
    expect([...again.counts]).toEqual([
      ["public.a", 1],
      ["public.b", 2],
    ]);
  }
  expect(open.total).toBe(2);
});

test("a checkpoint from before transactions had names is read", () => {
  const old = new OpenTransaction('{"version":"7","counts":{"public.a":2}}');
  expect(old).toMatchObject({ isOpen: true, version: 7n, total: 2, id: "" });
  old.end();
  expect(old).toMatchObject({ isOpen: false, total: 0, text: "" });
});
