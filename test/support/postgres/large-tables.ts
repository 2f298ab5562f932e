/** Tables that are large enough for a raw copy (core/contracts/raw), with few rows. */
import type { RunningPipeline } from "../daemon/running-pipeline.ts";

/** With these rows a table has a few megabytes beside its other columns. */
export const LARGE = {
  column: "large text",
  rows: 700,
  value: "repeat('large', 1600)",
  /** The values are not compressed. */
  external: (table: string): string => `alter table ${table} alter large set storage external`,
} as const;

/** The tables that the daemon copied undecoded, by its log. */
export function undecodedTables({ daemon }: Pick<RunningPipeline, "daemon">): readonly string[] {
  const lines = daemon.said.split("\n").filter((line) => line.includes("table copied undecoded"));
  return lines.map((line) => /"table":"((?:[^"\\]|\\.)*)"/.exec(line)?.[1] ?? line).toSorted();
}
