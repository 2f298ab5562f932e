/** What the warehouse kit plans for a target, over an engine that only spells names and types. */
import { describe, expect, test } from "vitest";
import { decodeNote, type WantedColumn } from "../../connectors/warehouse/following.ts";
import { formOf, type TargetForm } from "../../connectors/warehouse/own-columns.ts";
import {
  alterations,
  changeOf,
  copyOf,
  type CopyDialect,
  type ExistingTarget,
  mayCarryRows,
  noteText,
  type TableLayout,
} from "../../connectors/warehouse/table-change.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tableVersion, type TableSpec } from "../support/model/blocks.ts";

const MIRROR: TargetForm = { mode: "mirror", deletes: "hard" };
const SOFT: TargetForm = { mode: "mirror", deletes: "soft" };
const HISTORY: TargetForm = { mode: "history", deletes: "hard" };

const shape = (columns: TableSpec["columns"], more: Partial<TableSpec> = {}): TableVersion =>
  tableVersion({ table: "t", key: ["id"], columns, ...more });

const OLD = shape(
  [
    ["id", "integer"],
    ["a", "text"],
    ["b", "integer"],
  ],
  { identities: { id: 1, a: 2, b: 3 } },
);

/** Queries that find a row. */
const found = new Set<string>();

const dialect: CopyDialect = {
  place: "the engine",
  keyName: "key",
  keepsKeyOrder: false,
  quote: (name) => `"${name}"`,
  shown: ({ table }) => table,
  wanted: ({ table }) =>
    table.columns.map(({ name, identity, native }): WantedColumn => ({ name, identity, type: native })),
  refusal: ({ kind, message }) => new MillraceError({ code: "MR9000", kind: "fatal", message: `${kind}: ${message}` }),
  cast: ({ name }, { type }) => `try(${name} as ${type})`,
  ownColumns: () => ["_millrace_version", "_millrace_commit_time", "_millrace_op", "_millrace_offset"],
  rows: async (sql) => [...found].filter((text) => sql.includes(text)),
};

const layoutOf = (table: TableVersion, form = MIRROR, dropsColumns = false): TableLayout => ({
  table,
  sqlName: "t",
  form,
  dropsColumns,
  owner: "shop/warehouse",
});

/** The target as it is after it followed `table`; `more`: columns that are there besides. */
function targetOf(table: TableVersion, form = MIRROR, more: Record<string, string> = {}): ExistingTarget {
  const columns = new Map(table.columns.map(({ name, native }) => [name, { name, type: native }]));
  const own = ["_millrace_version", "_millrace_commit_time"];
  if (form.mode === "history") own.push("_millrace_op", "_millrace_offset");
  if (form.deletes === "soft") own.push("_millrace_deleted");
  for (const name of own) columns.set(name, { name, type: "own" });
  for (const [name, type] of Object.entries(more)) columns.set(name, { name, type });
  const key = table.key.map((ordinal) => table.columns[ordinal]!.name);
  const keys = [form.mode === "history" ? [...key, "_millrace_version", "_millrace_offset"] : key];
  return { isView: false, form: formOf(columns), columns, keys, note: decodeNote(noteText(dialect, layoutOf(table))) };
}

const planned = (
  to: TableVersion,
  { form = MIRROR, drops = false, from = OLD, existing = targetOf(from, form) } = {},
) => changeOf(dialect, layoutOf(to, form, drops), existing);

const codeOf = (plan: () => unknown): string => {
  try {
    plan();
  } catch (error) {
    return error instanceof MillraceError ? error.message.split(":")[0]! : String(error);
  }
  return "accepted";
};

const IN_PLACE = { rename: true, drop: true };

describe("a target", () => {
  test("that is like its table stays, whatever else Millrace keeps in it", () => {
    for (const form of [MIRROR, SOFT, HISTORY]) expect(planned(OLD, { form }).isNothing).toBe(true);
    const kept = targetOf(OLD, MIRROR, { gone: "text" });
    const change = planned(OLD, { existing: kept });
    expect([change.isNothing, change.retired]).toEqual([true, ["gone"]]);
    expect(planned(OLD, { existing: kept, drops: true }).isNothing).toBe(false);
  });

  test("that somebody else made, or that holds something else, is refused", () => {
    const { columns } = targetOf(OLD);
    const theirs = new Map([...columns].filter(([name]) => name !== "_millrace_version"));
    expect(codeOf(() => planned(OLD, { existing: { ...targetOf(OLD), form: formOf(theirs) } }))).toBe("foreign");
    expect(codeOf(() => planned(OLD, { existing: targetOf(OLD, HISTORY) }))).toBe("mode");
    expect(codeOf(() => planned(OLD, { form: HISTORY, existing: targetOf(OLD) }))).toBe("mode");
  });

  test("that tables share is not one table's alone, nor the reverse", () => {
    const sharing: TableVersion = { ...OLD, id: "tenant_a.t", scope: { b: "a" } };
    for (const form of [MIRROR, SOFT]) {
      expect(codeOf(() => planned(OLD, { form, existing: targetOf(sharing, form) }))).toBe("sharing");
      expect(codeOf(() => planned(sharing, { form, existing: targetOf(OLD, form) }))).toBe("sharing");
      expect(codeOf(() => planned(sharing, { form, existing: targetOf(sharing, form) }))).toBe("accepted");
      expect(codeOf(() => planned(sharing, { form, existing: { ...targetOf(OLD, form), note: null } }))).toBe(
        "accepted",
      );
    }
  });

  test("that another program made is taken over on request, and its further columns stay its own", () => {
    const { columns, keys } = targetOf(OLD, MIRROR, { theirs: "text" });
    const there = new Map([...columns].filter(([name]) => !name.startsWith("_millrace_")));
    const theirs: ExistingTarget = { isView: false, form: null, columns: there, keys, note: null };
    const adopting = (existing: ExistingTarget, table = OLD) =>
      changeOf(dialect, { ...layoutOf(table), adopts: true }, existing);
    const change = adopting(theirs);
    expect([change.isAdopted, change.isNothing, change.retired, change.isNewKey]).toEqual([true, false, [], false]);
    const note = decodeNote(change.note);
    expect(note?.theirs).toEqual(["theirs"]);
    const adopted = { ...targetOf(OLD, MIRROR, { theirs: "text" }), note };
    expect(adopting(adopted)).toMatchObject({ isNothing: true, isAdopted: false, retired: [], replaced: [] });
    const grown = (type: string) =>
      shape(
        [
          ["id", "integer"],
          ["a", "text"],
          ["theirs", type],
        ],
        { identities: { id: 1, a: 2, theirs: 4 } },
      );
    expect(adopting(adopted, grown("text")).retired).toEqual(["b"]);
    expect(decodeNote(adopting(adopted, grown("text")).note)?.theirs).toBeUndefined();
    expect(codeOf(() => adopting(adopted, grown("integer")))).toBe("type");
    expect(codeOf(() => adopting({ ...theirs, isView: true }))).toBe("foreign");
    expect(codeOf(() => adopting({ ...theirs, columns }))).toBe("foreign");
    expect(codeOf(() => adopting({ ...theirs, keys: [["a"]] }))).toBe("key");
    expect(codeOf(() => adopting(theirs, grown("integer")))).toBe("type");
  });

  test("that marks deleted rows, and should not, gets its other form", () => {
    const change = planned(OLD, { existing: targetOf(OLD, SOFT) });
    expect([change.isOtherForm, change.isNothing, alterations(change, IN_PLACE)]).toEqual([true, false, null]);
  });

  test("with a type or a key that somebody else changed is refused; the source's change is followed", () => {
    const retyped = shape(
      [
        ["id", "integer"],
        ["a", "integer"],
        ["b", "integer"],
      ],
      { identities: { id: 1, a: 2, b: 3 } },
    );
    expect(planned(retyped).columns.map(({ isRetyped }) => isRetyped)).toEqual([false, true, false]);
    expect(codeOf(() => planned(OLD, { existing: targetOf(OLD, MIRROR, { a: "integer" }) }))).toBe("type");
    expect(codeOf(() => planned(OLD, { existing: { ...targetOf(OLD), keys: [["b"]] } }))).toBe("key");
    const rekeyed = shape(
      [
        ["id", "integer"],
        ["a", "text"],
        ["b", "integer"],
      ],
      { key: ["b"], identities: { id: 1, a: 2, b: 3 } },
    );
    expect(planned(rekeyed).isNewKey).toBe(true);
    expect(codeOf(() => planned(rekeyed, { form: HISTORY }))).toBe("key");
    expect(codeOf(() => planned(rekeyed, { existing: { ...targetOf(OLD), note: null } }))).toBe("key");
  });

  test("of which the order of the key's columns matters is made again when that changes", () => {
    const two = (key: readonly string[]) =>
      shape(
        [
          ["id", "integer"],
          ["b", "integer"],
        ],
        { key: [...key], identities: { id: 1, b: 2 } },
      );
    const existing = targetOf(two(["id", "b"]));
    const change = (keepsKeyOrder: boolean) =>
      changeOf({ ...dialect, keepsKeyOrder }, layoutOf(two(["b", "id"])), existing);
    expect([change(false).isNewKey, change(true).isNewKey]).toEqual([false, true]);
  });
});

describe("a change", () => {
  const renamed = shape(
    [
      ["id", "integer"],
      ["title", "text"],
      ["c", "text"],
    ],
    { identities: { id: 1, title: 2, c: 4 } },
  );
  const exchanged = shape(
    [
      ["id", "integer"],
      ["a", "text"],
      ["b", "integer"],
    ],
    { identities: { id: 1, a: 5, b: 3 } },
  );

  test("of names is made in place where the engine can", () => {
    const change = planned(renamed);
    expect(alterations(change, IN_PLACE)).toEqual({
      added: [{ name: "c", identity: 4, type: "text" }],
      renamed: [{ from: "a", to: "title" }],
      dropped: [],
    });
    expect(alterations(change, { rename: false, drop: true })).toBeNull();
    expect(alterations(planned(renamed, { drops: true }), IN_PLACE)?.dropped).toEqual(["b"]);
    expect(alterations(planned(renamed, { drops: true }), { rename: true, drop: false })).toBeNull();
  });

  test("in which a name changes hands is never made in place", () => {
    const handed = shape(
      [
        ["id", "integer"],
        ["b", "text"],
        ["a", "integer"],
      ],
      { identities: { id: 1, b: 2, a: 3 } },
    );
    const passedOn = shape(
      [
        ["id", "integer"],
        ["title", "text"],
        ["b", "integer"],
        ["a", "text"],
      ],
      { identities: { id: 1, title: 2, b: 3, a: 4 } },
    );
    for (const to of [handed, passedOn]) expect(alterations(planned(to), IN_PLACE)).toBeNull();
  });

  test("that needs the name of a lost column leaves its values under another, and a copy takes them along", async () => {
    const change = planned(exchanged);
    expect(change.replaced).toEqual([{ from: "a", to: `a_until_${exchanged.version}` }]);
    expect(alterations(change, IN_PLACE)).toBeNull();
    const copy = await copyOf(dialect, change);
    expect(copy.kept).toEqual([`"a_until_${exchanged.version}" text`]);
    expect(copy.cells.map(({ name, value }) => `${name} = ${value}`)).toEqual([
      '"id" = "id"',
      '"b" = "b"',
      `"a_until_${exchanged.version}" = "a"`,
      '"_millrace_version" = "_millrace_version"',
      '"_millrace_commit_time" = "_millrace_commit_time"',
    ]);
    expect((await copyOf(dialect, planned(exchanged, { drops: true }))).kept).toEqual([]);
  });

  test("of a type keeps a history's values that the new one can't hold", async () => {
    const retyped = shape(
      [
        ["id", "integer"],
        ["a", "integer"],
        ["b", "integer"],
      ],
      { identities: { id: 1, a: 2, b: 3 } },
    );
    const copied = async (form: TargetForm) => (await copyOf(dialect, planned(retyped, { form }))).moved;
    expect(await copied(HISTORY)).toEqual([]);
    found.add('"a" IS NOT NULL AND try(a as integer) IS NULL');
    expect([await copied(HISTORY), await copied(MIRROR)]).toEqual([[`a_until_${retyped.version}`], []]);
    found.clear();
  });

  test("keeps the rows if columns were renamed, added, or dropped with their values", () => {
    const carries = (to: TableVersion, drops: boolean, form = MIRROR) =>
      mayCarryRows(dialect, layoutOf(OLD, form, drops), layoutOf(to, form, drops), targetOf(OLD, form));
    expect([carries(renamed, true), carries(renamed, false), carries(renamed, false, HISTORY)]).toEqual([
      true,
      false,
      true,
    ]);
  });
});
