/** One text that names a row: how a key makes it, which key it has, and how it is guessed from what is there. */
import { expect, test } from "vitest";
import { guessedName, namesByStart, RowName } from "../../src/core/targets/row-name.ts";

const INT = { kind: "int", bits: 32, signed: true } as const;
const TEXT = { kind: "text" } as const;
const ID = [{ name: "id", type: INT }];
const PAIR = [
  { name: "a", type: TEXT },
  { name: "b", type: INT },
];
const ORDERS = { schema: "public", table: "orders" };

function made(
  template: string,
  key = ID as readonly { readonly name: string; readonly type: typeof INT | typeof TEXT }[],
) {
  const name = RowName.from(template, key);
  if (typeof name === "string") throw new Error(name);
  return name;
}

test("a key makes the name, and the name has the key, in whatever order", () => {
  const name = made("{shop}:{b}/{a}.", PAIR);
  expect(name.start).toBe("{shop}:");
  expect(name.of(["x/y", "-7"])).toBe("{shop}:-7/x/y.");
  expect(name.keyIn("{shop}:-7/x/y.")).toEqual(["x/y", "-7"]);
  expect(made("{a}_{b}", PAIR).keyIn("x_1_2")).toEqual(["x_1", "2"]);
});

test.each(["order:1:items", "order:x", "order:", "order", "xorder:1", "order:1\n"])("%j is no row's name", (name) => {
  expect(made("order:{id}").keyIn(name)).toBeNull();
});

test("a template that has not each column of the key once is refused", () => {
  expect(RowName.from("order:{idd}", ID)).toContain("must hold {id} once");
  expect(RowName.from("{id}:{id}", ID)).toContain("must hold {id} once");
});

test.each([
  [ID, ["1", "2"], "", "{id}"],
  [ID, ["orders-1", "orders-2", "other"], "", "orders-{id}"],
  [ID, [], "", "{id}"],
  [PAIR, ["x_1", "x_y_2"], "", "{a}_{b}"],
  [PAIR, ["x:1", "x_y:2"], "", "{a}:{b}"],
  [PAIR.toReversed(), ["public.orders|1|x"], "", "public.orders|{b}|{a}"],
  [[PAIR[0]!], ["order_a", "order_b"], "", "{a}"],
  [ID, ["a", "b", "1"], "", null],
  [ID, ["app:order:1", "app:order:2", "app:order:next"], "app:order:", "app:order:{id}"],
] as const)("%j %j %j is %j", (key, some, start, expected) => {
  expect(guessedName({ start, some }, ORDERS, key)?.template ?? null).toBe(expected);
});

test("keys are a table's behind its name, in singular or plural, and with a key of its kind", () => {
  const names = ["app:order:1", "app:order:2:items", "v2:Orders:3", "orders:x", "order_items:4", "app:orders", "5"];
  expect([...namesByStart(names, ORDERS, ID)]).toEqual([
    ["app:order:", ["app:order:1"]],
    ["v2:Orders:", ["v2:Orders:3"]],
  ]);
  expect([...namesByStart(["line_item/x/1"], { schema: "s", table: "LineItems" }, PAIR).keys()]).toEqual([
    "line_item/",
  ]);
});
