/** What the log said of a table counts in place of the catalogue's word, as long as the table is the same. */
import { describe, expect, test } from "vitest";
import type { CatalogTable } from "../../connectors/mysql/source/catalog/catalog.ts";
import { described, LoggedShapes } from "../../connectors/mysql/source/catalog/logged-shapes.ts";
import { catalogShape } from "../../connectors/mysql/source/catalog/shapes.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";

const COLUMN = {
  nullable: false,
  length: 0,
  precision: 0,
  scale: 0,
  digits: 0,
  isJson: false,
  expression: "",
  isLogged: true,
};
const BEFORE = 10n;
const AFTER = 12n;
const PLACE = 20n;

function table(of: Partial<CatalogTable> = {}, names: readonly string[] = ["id", "v"]): CatalogTable {
  return {
    schema: "shop",
    table: "t",
    type: "BASE TABLE",
    engine: "InnoDB",
    generation: "#1",
    altered: "2026-01-01 00:00:00",
    columns: names.map((name) => ({ ...COLUMN, name, dataType: "int", columnType: "int" })),
    isReadable: true,
    history: undefined,
    primary: { name: "PRIMARY", columns: ["id"] },
    uniques: [],
    nullableUnique: undefined,
    ...of,
  };
}

function shapeOf(one: CatalogTable): TableShape {
  const shape = catalogShape(one, { zeroDates: () => "null", chosenKey: () => null });
  if (shape === undefined) throw new Error("it has a key");
  return shape;
}

/** The same columns, described otherwise. */
const LOGGED = { ...shapeOf(table()), fingerprint: "logged" };

function told(shape: TableShape, atLook: CatalogTable, now: CatalogTable | undefined): LoggedShapes {
  const shapes = new LoggedShapes(SILENT);
  shapes.looked(BEFORE, AFTER, new Map([[shape.id, described(atLook, shapeOf(atLook))]]));
  shapes.shown(shape, PLACE, now === undefined ? undefined : described(now, shapeOf(now)));
  return shapes;
}

function followed(shapes: LoggedShapes, live: CatalogTable): string {
  return shapes.of(live, shapeOf(live)).fingerprint;
}

describe("the log's word", () => {
  test("counts for the table that it was said of, also after a restart", () => {
    const shapes = told(LOGGED, table(), table());
    expect(followed(shapes, table())).toBe("logged");
    const restarted = new LoggedShapes(SILENT);
    restarted.load(shapes.text);
    expect(followed(restarted, table())).toBe("logged");
  });

  test("counts if the server tells the numbers of all its tables, and of one alone the time when it was made", () => {
    const alone = table({ generation: "2026-01-01 00:00:00" });
    const shapes = told(LOGGED, table(), alone);
    expect([followed(shapes, table()), followed(shapes, alone)]).toEqual(["logged", "logged"]);
  });

  test.each([
    ["was altered", { altered: "2026-01-01 00:00:09" }],
    ["was altered this very second", { altered: "2026-01-01 00:00:09~" }],
  ])("is void when the table %s, though it looks the same", (_, of) => {
    expect(followed(told(LOGGED, table(), table()), table(of))).toBe(shapeOf(table()).fingerprint);
    // As is what was said between a look and such a change.
    expect(followed(told(LOGGED, table(), table(of)), table(of))).toBe(shapeOf(table()).fingerprint);
  });

  test("is void after any statement that changes a table, if that may be in the second of the last change", () => {
    const fresh = table({ altered: "2026-01-01 00:00:00~" });
    const shapes = told(LOGGED, fresh, fresh);
    expect([followed(shapes, fresh), followed(shapes, table())]).toEqual(["logged", "logged"]);
    shapes.defined(PLACE + 1n);
    expect(followed(shapes, table())).toBe(shapeOf(fresh).fingerprint);
    const later = told(LOGGED, table(), table());
    later.defined(PLACE + 1n);
    expect(followed(later, table())).toBe("logged");
  });

  test("is void where it names columns that nobody can read", () => {
    const wider = { ...shapeOf(table({}, ["id", "v", "gone"])), fingerprint: "wider" };
    expect(followed(told(wider, table(), table()), table())).toBe(shapeOf(table()).fingerprint);
  });
});
