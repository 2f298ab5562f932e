/** Compares every table in every sink with the source, and prints the results as a table. */
import Table from "cli-table3";
import { compareSink, isEqual, type TableDifference } from "../../test/support/compare/compare.ts";
import { TABLES } from "./shop.ts";
import type { DemoSink } from "./sinks.ts";
import type { DemoSource } from "./sources.ts";

export interface Result extends TableDifference {
  readonly sink: string;
}

export async function compareAll({ url, schema }: DemoSource, sinks: readonly DemoSink[]): Promise<readonly Result[]> {
  const tables = TABLES.map((table) => ({ schema, table }));
  const results: Result[] = [];
  for (const { name, address } of sinks) {
    const found = await compareSink({ source: url, sink: address, tables });
    results.push(...found.map((difference) => ({ ...difference, sink: name })));
  }
  return results;
}

export function describeResults(results: readonly Result[]): string {
  const table = new Table({
    head: ["table", "sink", "source rows", "sink rows", "result"],
    colAligns: ["left", "left", "right", "right", "left"],
    style: { head: [], border: [], compact: true },
  });
  for (const name of TABLES) {
    for (const result of results.filter((each) => each.table.endsWith(`.${name}`))) {
      const { sink, sourceRows, sinkRows } = result;
      table.push([result.table, sink, grouped(sourceRows), grouped(sinkRows), verdict(result)]);
    }
  }
  return table.toString();
}

function verdict(result: Result): string {
  if (isEqual(result)) return "equal";
  const { missing, extra, different, columns, samples } = result;
  const counts = [
    ...(missing > 0 ? [`${missing} missing`] : []),
    ...(extra > 0 ? [`${extra} extra`] : []),
    ...(different > 0 ? [`${different} different in ${columns.join(", ")}`] : []),
  ];
  return [counts.join(", "), ...samples.map((text) => `  ${text}`)].join("\n");
}

export function grouped(count: number): string {
  return count.toLocaleString("en-US");
}
