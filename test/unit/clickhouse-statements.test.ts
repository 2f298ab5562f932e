import { expect, test } from "vitest";
import { grants } from "../../connectors/clickhouse/grants.ts";
import { fitted, quoteIdentifier, quoteLiteral, targetOf } from "../../connectors/clickhouse/names.ts";
import { layoutOf, type TableLayout } from "../../connectors/clickhouse/tables/layout.ts";
import { createSql } from "../../connectors/clickhouse/tables/statements.ts";
import { viewFor } from "../../connectors/clickhouse/tables/view.ts";
import { tableVersion } from "../support/model/blocks.ts";

const table = tableVersion({
  table: "lines",
  columns: { order: "int8", "n`o": "int4", what: "text" },
  key: ["order", "n`o"],
});

function layout(parts: Partial<TableLayout> = {}): TableLayout {
  return layoutOf(table, {
    target: { database: "shop", table: "lines" },
    form: { deletes: "hard", mode: "mirror" },
    placement: { cluster: undefined, fsync: false },
    dropsColumns: false,
    owner: "shop/warehouse",
    ...parts,
  });
}

test("a mirror is sorted by the key, and its engine hides deleted rows unless they are to stay", () => {
  expect(createSql(layout(), { column: "_millrace_run_1" })).toMatch(
    /^CREATE TABLE `shop`\.`lines` \(`order` Int64, `n\\`o` Int32, `what` Nullable\(String\), .*, `_millrace_run_1` UInt8 EPHEMERAL\) ENGINE = ReplacingMergeTree\(_millrace_version, _millrace_deleted\) ORDER BY \(`order`, `n\\`o`\) COMMENT 'millrace /,
  );
  const soft = createSql(layout({ form: { deletes: "soft", mode: "mirror" } }), { column: "_millrace_run_1" });
  expect(soft).toContain("ENGINE = ReplacingMergeTree(_millrace_version) ORDER BY");
});

test("on a cluster everything is made ON CLUSTER, with replicas", () => {
  const placed = layout({ placement: { cluster: "all nodes", fsync: true } });
  expect(createSql(placed, { column: "_millrace_run_1" })).toContain(
    "CREATE TABLE `shop`.`lines` ON CLUSTER `all nodes` (",
  );
  expect(createSql(placed, { column: "_millrace_run_1" })).toContain(
    "ENGINE = ReplicatedReplacingMergeTree(_millrace_version, _millrace_deleted) ORDER BY (`order`, `n\\`o`) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
  );
  expect(viewFor(placed).createSql("`shop`.`lines_current`")).toContain(
    "VIEW `shop`.`lines_current` ON CLUSTER `all nodes` AS SELECT",
  );
});

test("the grants are on the databases of tables, or on all where these are not known", () => {
  const settings = {
    url: "http://wri%60ter:secret@localhost:8123",
    schema: undefined,
    placement: { cluster: undefined, fsync: true },
    quorum: undefined,
  };
  const [known] = grants(settings, [{ schema: "shop", table: "lines" }]);
  expect(known?.script).toContain(
    "GRANT SELECT, INSERT, ALTER TABLE, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW ON `shop`.* TO `wri\\`ter`;",
  );
  expect(known?.script).toContain("ON `millrace`.* TO");
  expect(known?.script).not.toContain("secret");
  expect(grants(settings, undefined)[0]?.script).toContain("ON *.* TO");
  const replicated = { ...settings, placement: { cluster: "all", fsync: true } };
  expect(known?.script).not.toContain("SYNC REPLICA");
  expect(grants(replicated, undefined)[0]?.script).toContain("DROP VIEW, SYSTEM SYNC REPLICA ON *.* TO");
  expect(grants({ ...replicated, quorum: "auto" }, undefined)[0]?.script).not.toContain("SYNC REPLICA");
});

test("names keep within what ClickHouse allows for files, and differ where they did", () => {
  expect(fitted("x".repeat(63))).toBe("x".repeat(63));
  const [one, other] = ["é".repeat(31), `${"é".repeat(30)}e`].map(fitted);
  expect(one).toMatch(/^é+_[0-9a-f]{8}$/);
  expect(one).not.toBe(other);
  expect([quoteIdentifier("a`b\\c"), quoteLiteral("it's \\ \0")]).toEqual(["`a\\`b\\\\c`", "'it\\'s \\\\ \\0'"]);
  for (const schema of ["system", "millrace", "INFORMATION_SCHEMA"])
    expect(() => targetOf({ schema, table: "t" }, undefined)).toThrow(/name is ClickHouse's or Millrace's/);
});
