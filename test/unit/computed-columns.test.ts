/** Functions of the configuration: which can be loaded, what they get, and what they may return. */
import { writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { OP_LETTERS, OP_UNTOLD } from "../../src/core/model/block.ts";
import {
  failedCell,
  CELL_FAILED,
  CELL_NULL,
  CELL_UNCHANGED,
  CellMap,
  TupleWriter,
} from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { FunctionFault, functionName, loadFunction } from "../../src/rules/computed/functions.ts";
import { readValue } from "../../src/rules/computed/computed-columns.ts";
import { declaredType, resultText } from "../../src/rules/computed/results.ts";
import type { Rules } from "../../src/rules/definition.ts";
import { Masker } from "../../src/rules/masks.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { RuledBlocks } from "../../src/rules/ruled-blocks.ts";
import { withFunctions } from "../../src/rules/with-rules.ts";
import { blockOf, firstVersion, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

function faultOf(folder: string, name: string): string {
  try {
    loadFunction(functionName(name, folder));
    return "none";
  } catch (error) {
    if (error instanceof FunctionFault) return error.message;
    throw error;
  }
}

describe("loading", () => {
  test("what can't be used is told with its file, and with the line where there is one", () => {
    using folder = temporaryFolder();
    const files = {
      "good.ts": "export const f = (row: { a: string }): string => row.a; export const n = 7;",
      "later.ts": "export async function f() {} export function* g() {}",
      "enum.ts": "\nenum X { A }\nexport const f = () => X.A;",
      "syntax.ts": "\n\nexport const f = ;",
      "throws.ts": "\nthrow new RangeError('CANARY');",
      "lost.ts": 'import "./nowhere.ts"; export const f = () => 1;',
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(folder.file(name), text);
    const found = (name: string) => faultOf(folder.path, name);
    expect(found("./good.ts#f")).toBe("none");
    expect(found("./good.ts#n")).toBe("n in good.ts is no function");
    expect(found("./good.ts#toString")).toBe("good.ts has no export toString");
    expect(found("./later.ts#f")).toBe("f in later.ts is async");
    expect(found("./later.ts#g")).toBe("g in later.ts is a generator");
    expect(found("./none.ts#f")).toBe("there is no file none.ts");
    expect(found("./enum.ts#f")).toMatch(/^enum.ts can't be loaded, at enum.ts:2: .*enum/);
    expect(found("./syntax.ts#f")).toMatch(/^syntax.ts can't be loaded, at syntax.ts:3/);
    expect(found("./throws.ts#f")).toMatch(/^throws.ts can't be loaded, at throws.ts:2:7: a RangeError was thrown$/);
    expect(found("./lost.ts#f")).toMatch(/^lost.ts can't be loaded.*nowhere.ts/);
    for (const name of ["rules.ts", "rules#f", "./rules.ts#", "#f"])
      expect(found(name)).toBe("it is no name of a function");
  });

  test("the digest is of a module and of all that it imports, wherever they lie", () => {
    const digest = (own: string, imported: string) => {
      using folder = temporaryFolder();
      writeFileSync(folder.file("a.ts"), own);
      writeFileSync(folder.file("b.ts"), imported);
      return loadFunction(functionName("./a.ts#f", folder.path)).digest;
    };
    const own = 'import { g } from "./b.ts"; export const f = () => g();';
    const first = digest(own, "export const g = () => 1;");
    expect(digest(own, "export const g = () => 1;")).toBe(first);
    expect(digest(own, "export const g = () => 2;")).not.toBe(first);
    expect(digest(`${own} // other`, "export const g = () => 1;")).not.toBe(first);
  });
});

describe("values", () => {
  const cells = new CellMap();
  const read = (type: ColumnType, text: string) => {
    const tuples = new TupleWriter(new ByteWriter(64));
    tuples.begin(1);
    tuples.text(Buffer.from(text), 0, Buffer.byteLength(text));
    cells.read(tuples.out.bytes, 0);
    return readValue(type, tuples.out.bytes, cells, 0);
  };

  test.for<[ColumnType, string, unknown]>([
    [{ kind: "bool" }, "t", true],
    [{ kind: "int", bits: 32, signed: false }, "4294967295", 4294967295],
    [{ kind: "int", bits: 64, signed: true }, "-9223372036854775808", -9223372036854775808n],
    [{ kind: "int", bits: 64, signed: false }, "18446744073709551615", 18446744073709551615n],
    [{ kind: "float", bits: 64 }, "NaN", Number.NaN],
    [{ kind: "decimal", precision: null, scale: null }, "0.10", "0.10"],
    [{ kind: "bytes" }, "\\x00ff", Uint8Array.of(0, 255)],
    [{ kind: "timestamp", zone: true }, "2026-01-02 03:04:05.000001+00", "2026-01-02T03:04:05.000001Z"],
    [{ kind: "timestamp", zone: false }, "infinity", "infinity"],
    [{ kind: "json" }, '{"a": 12345678901234567890}', '{"a": 12345678901234567890}'],
    [
      { kind: "array", of: { kind: "int", bits: 64, signed: true } },
      "{{1,9007199254740993},{NULL,3}}",
      [
        [1n, 9007199254740993n],
        [null, 3n],
      ],
    ],
    [{ kind: "array", of: { kind: "text" } }, '{a,"b \\"c",NULL}', ["a", 'b "c', null]],
  ])("%j from %s", ([type, text, value]) => {
    expect(read(type, text)).toEqual(value);
  });

  const returned = (text: string, value: unknown) => {
    const declared = declaredType(text);
    if (typeof declared === "string") throw new Error(declared);
    try {
      return resultText(declared.type, value);
    } catch (error) {
      return error instanceof Error ? error.message.replace(/;.*/s, "") : error;
    }
  };

  test.for<[string, unknown, string]>([
    ["boolean", false, "f"],
    ["boolean", 0, "returned a number"],
    ["smallint", 32768, "returned a number"],
    ["integer", -2147483648n, "-2147483648"],
    ["integer", 1.5, "returned a number"],
    ["bigint", 2 ** 53, "returned a number"],
    ["bigint", 2n ** 63n, "returned a bigint"],
    ["double", Number.NaN, "NaN"],
    ["decimal(5,2)", "1.5", "1.50"],
    ["decimal(5,2)", "-000.00", "0.00"],
    ["decimal(5,2)", "1.005", "returned a string"],
    ["decimal(5,2)", 1000, "returned a number"],
    ["decimal", 0.1, "returned a number"],
    ["decimal", "1e3", "returned a string"],
    ["text", "\ud800", "returned a string"],
    ["text", "a\0", "returned a string"],
    ["text", undefined, "returned nothing"],
    ["bytes", Uint8Array.of(1, 255), "\\x01ff"],
    ["date", "2024-02-30", "returned a string"],
    ["date", new Date(0), "returned a Date"],
    ["time", "24:61:00", "returned a string"],
    ["timestamp", "2024-02-29T13:05:00.500000", "2024-02-29 13:05:00.5"],
    ["timestamp", "2024-02-29T13:05:00Z", "returned a string"],
    ["timestamptz", new Date("2024-02-29T13:05:00.5Z"), "2024-02-29 13:05:00.5+00"],
    ["timestamptz", "2024-02-29T13:05:00+01:00", "returned a string"],
    ["timestamptz", new Date(Number.NaN), "returned a Date"],
    ["uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    ["json", '{"a": 1.10}', '{"a": 1.10}'],
    ["json", "word", "returned a string"],
    ["json", { a: [1n, null, "x"] }, '{"a":[1,null,"x"]}'],
    ["json", { a: undefined }, "returned an object"],
    ["json", [Number.NaN], "returned a list"],
    ["json", new Map(), "returned an object"],
    ["text[]", ["a", null, 'b "c', "NULL", ""], '{a,NULL,"b \\"c","NULL",""}'],
    ["integer[]", [1, "2"], "returned a list"],
  ])("%s takes %o", ([type, value, text]) => {
    expect(returned(type, value)).toBe(text);
  });

  test("a promise that fails later ends nobody", async () => {
    expect(returned("text", Promise.reject(new Error("later")))).toBe("returned a promise");
    await new Promise((resolve) => void setImmediate(resolve));
  });

  test.for(["varchar", "decimal(0)", "decimal(3,4)", "json[]", "text[][]", ""])("there is no type %s", (text) => {
    expect(declaredType(text)).toEqual(expect.any(String));
  });
});

const person = tableVersion({ table: "person", columns: { id: "int8", first: "text", body: "text" } });

const MODULE = `
export const both = ({ first, body }) => { if (first === "throw") throw new Error(body); return first + "-" + body; };
export const one = ({ body }) => body;
`;

function rulesFor(tables: object): Rules {
  using folder = temporaryFolder();
  writeFileSync(folder.file("rules.js"), MODULE);
  const problem = (code: string, path: readonly string[], message: string): never => {
    throw new Error(`${code} ${path.join(".")}: ${message}`);
  };
  const parsed = z.record(z.string(), tableDefinition).parse(tables);
  return withFunctions(
    rulesOf(parsed, { maskKey: undefined, folder: folder.path, place: (path) => path.join("."), problem }),
  );
}

const BOTH = { type: "text", from: ["first", "body"], value: "./rules.js#both" };
const ONE = { type: "text", from: ["body"], value: "./rules.js#one" };
const problemsOf = (columns: object, shape: TableShape = person, pattern = "public.person") =>
  new RuleBook(rulesFor({ [pattern]: { columns } }))
    .problems([shape])
    .map(({ code, place, message }) => `${code} ${place} ${message}`);

describe("a table with computed columns", () => {
  test("what a rule hides is no input in clear: masked it is masked, dropped it is refused", () => {
    expect(problemsOf({ both: BOTH, body: { mask: "redact" } })).toEqual([]);
    expect(problemsOf({ both: BOTH, body: { drop: true } })).toEqual([
      expect.stringMatching(/^MR1023 .*both.*"both" .* is made from "body", which a rule leaves out/),
    ]);
    expect(problemsOf({ both: BOTH, "bo*": { drop: true } })).toEqual([expect.stringMatching(/^MR1023/)]);
    expect(problemsOf({ both: BOTH, only: ["id", "first"] })).toEqual([expect.stringMatching(/^MR1023/)]);
  });

  test("names that are wrong, taken or missing", () => {
    expect(problemsOf({ both: { ...BOTH, from: ["first", "nobody"] } })).toEqual([
      expect.stringMatching(/^MR1021 .*no column "nobody"/),
    ]);
    expect(problemsOf({ first: BOTH })).toEqual([expect.stringMatching(/^MR1023 .*has a column "first" already/)]);
    expect(problemsOf({ both: BOTH, body: { rename: "both" } })).toEqual([expect.stringMatching(/^MR1023/)]);
    expect(problemsOf({ both: { ...BOTH, value: "./rules.js#none" } })).toEqual([
      expect.stringMatching(/^MR1035 tables.public.person.columns.both.value function .* has no export none/),
    ]);
    expect(problemsOf({ both: { ...BOTH, from: ["nobody"] } }, person, "public.*")).toEqual([
      expect.stringMatching(/^MR1021 .*none of the tables/),
    ]);
  });

  test("another text of the function is another rule", () => {
    const rules = rulesFor({ "public.person": { columns: { one: ONE } } });
    const fingerprint = (of: Rules) => new RuleBook(of).plan(person)!.shape.fingerprint;
    const [name, loaded] = [...rules.functions!][0]!;
    if (loaded instanceof FunctionFault) throw loaded;
    const changed = { ...rules, functions: new Map([[name, { ...loaded, digest: "other" }]]) };
    expect(fingerprint(changed)).not.toBe(fingerprint(rules));
  });

  test("changes: all inputs, some, or none; a whole old row; a failure", () => {
    const rules = rulesFor({ "public.person": { columns: { both: BOTH, one: ONE } } });
    const plan = new RuleBook(rules).plan(person)!;
    const ruled = firstVersion(plan.shape);
    const blocks = new RuledBlocks(new Masker(null), () => ({ source: person, ruled, plan }));
    const block = blockOf([
      { table: person, op: "c", after: ["1", "a", "x"] },
      { table: person, op: "u", after: ["1", "b", UNCHANGED] },
      { table: person, op: "u", after: ["1", UNCHANGED, UNCHANGED] },
      { table: person, op: "u", after: ["2", "b", UNCHANGED], before: ["1", null, null] },
      { table: person, op: "u", after: ["3", "throw", "CANARY"] },
      { table: person, op: "d", before: ["3", null, null] },
    ]);
    const made = blocks.apply(block);
    const cells = new CellMap();
    const shown = (offset: number) => {
      if (offset === 0xffff_ffff) return "";
      cells.read(made.bytes, offset);
      return Array.from({ length: cells.count }, (_, i) => {
        if (cells.kind[i] === CELL_NULL) return "null";
        if (cells.kind[i] === CELL_UNCHANGED) return "=";
        if (cells.kind[i] === CELL_FAILED) return "failed";
        return Buffer.from(made.bytes).toString("utf8", cells.start[i], cells.start[i]! + cells.length[i]!);
      }).join(",");
    };
    const rows = Array.from({ length: made.count }, (_, row) => [
      made.op[row] === OP_UNTOLD ? "?" : OP_LETTERS[made.op[row]!],
      shown(made.after[row]!),
      shown(made.before[row]!),
    ]);
    expect(rows).toEqual([
      ["c", "1,a,x,a-x,x", ""],
      ["?", "1,=,=,=,=", ""],
      // A sink's row is from before the change that was not told.
      ["?", "1,=,=,=,=", ""],
      ["?", "2,=,=,=,=", "1,null,null,null,null"],
      ["u", "3,throw,CANARY,failed,CANARY", ""],
      ["d", "", "3,null,null,null,null"],
    ]);
    const failed = failedCell(ruled, made.bytes, made.after[4]!)!;
    expect(failed.column).toBe("both");
    expect(failed.how).toMatch(/rules.js#both threw an Error at rules.js:2:\d+$/);
    expect(failed.how).not.toContain("CANARY");
  });
});
