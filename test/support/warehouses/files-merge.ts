/** The rows that a files sink's changes of one table leave, as SQL for DuckDB: docs/warehouses/duckdb.md has it for one table. */

export interface MergedTable {
  /** What `read_parquet` reads. */
  readonly files: string;
  readonly key: readonly string[];
  readonly columns: readonly string[];
}

export function mergeSql({ files, key, columns }: MergedTable): string {
  const keys = key.map(quoted).join(", ");
  const others = columns.filter((name) => !key.includes(name));
  const carried = others.map(
    (name) =>
      `         arg_min({'v': linked.${quoted(name)}}, depth) FILTER (NOT list_contains(missing, ${literal(name)})).v AS ${quoted(name)},`,
  );
  const shown = columns.map((name) =>
    key.includes(name)
      ? `newest.${quoted(name)}`
      : `CASE WHEN carried.target IS NULL THEN newest.${quoted(name)} ELSE carried.${quoted(name)} END AS ${quoted(name)}`,
  );
  return `WITH RECURSIVE changes AS MATERIALIZED (
  SELECT * FROM read_parquet(${literal(files)}, union_by_name = true, hive_partitioning = false)
), marks AS (
  SELECT _millrace_sequence AS "sequence", _millrace_version - (_millrace_op = 's')::INT AS limit_version
  FROM changes WHERE _millrace_op IN ('t', 's')
), ordered AS (
  SELECT *,
         lag(_millrace_sequence) OVER by_key AS previous,
         lead(_millrace_sequence) OVER by_key AS next
  FROM changes WHERE _millrace_op NOT IN ('t', 's')
  WINDOW by_key AS (PARTITION BY ${keys} ORDER BY _millrace_sequence)
), linked AS MATERIALIZED (
  SELECT ordered.*, CASE WHEN moved._millrace_sequence IS NULL THEN ordered.previous ELSE moved.previous END AS base
  FROM ordered LEFT JOIN ordered AS moved
    ON moved._millrace_sequence = ordered._millrace_sequence - 1 AND moved._millrace_op = 'd'
   AND moved._millrace_version = ordered._millrace_version AND moved._millrace_offset = ordered._millrace_offset
), newest AS (
  SELECT * FROM linked
  WHERE next IS NULL AND _millrace_op <> 'd' AND NOT EXISTS (
    FROM marks WHERE "sequence" > linked._millrace_sequence AND limit_version >= linked._millrace_version)
), walk AS (
  SELECT _millrace_sequence AS target, 0 AS depth, _millrace_sequence AS at, base,
         from_json(_millrace_unchanged, '["VARCHAR"]') AS missing
  FROM newest WHERE _millrace_unchanged IS NOT NULL
  UNION ALL
  SELECT target, depth + 1, linked._millrace_sequence, linked.base,
         list_intersect(missing, coalesce(from_json(linked._millrace_unchanged, '["VARCHAR"]'), []))
  FROM walk JOIN linked ON linked._millrace_sequence = walk.base WHERE len(missing) > 0
), carried AS (
  SELECT target,
${carried.join("\n")}
  FROM walk JOIN linked ON linked._millrace_sequence = walk.at GROUP BY target
)
SELECT ${shown.join(",\n       ")},
       newest._millrace_version, newest._millrace_commit_time
FROM newest LEFT JOIN carried ON carried.target = newest._millrace_sequence`;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
