/** `millrace reconcile --json`, and what it has found as lines. */
import { expect } from "vitest";
import type { ReconcileDocument } from "../../../src/core/contracts/reconciliation.ts";
import type { CommandResult, Installation } from "./daemon-process.ts";

export interface Reconciled extends CommandResult {
  readonly found: ReconcileDocument;
}

export async function reconcile(installation: Installation, ...args: readonly string[]): Promise<Reconciled> {
  const result = await installation.command("reconcile", "--json", ...args);
  return { ...result, found: documentOf(result) };
}

function documentOf({ stdout, stderr }: CommandResult): ReconcileDocument {
  if (!stdout.includes('"tables"')) throw new Error(`no document: ${stdout} ${stderr}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the program's own output, in its documented shape
  return JSON.parse(stdout) as ReconcileDocument;
}

/** Each row that differs as `table key… kind column…`, by sink. */
export function driftOf({ tables }: ReconcileDocument): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const { sink, table, sample } of tables) {
    for (const { kind, key, columns } of sample) {
      (found[sink] ??= []).push([table, ...Object.values(key), kind, ...columns].join(" "));
    }
  }
  for (const lines of Object.values(found)) lines.sort();
  return found;
}

/** All rows of the only table were compared, none differs, and the daemon has complained of nothing. */
export async function expectAllEqual(
  pipeline: { readonly installation: Installation; complaints(): readonly string[] },
  rowCount: number,
): Promise<void> {
  const { exitCode, found } = await reconcile(pipeline.installation);
  const compared = found.tables.map(({ sourceRows, sinkRows }) => [sourceRows, sinkRows]);
  expect({ exitCode, compared, drift: driftOf(found), said: pipeline.complaints() }).toEqual({
    exitCode: 0,
    compared: [[rowCount, rowCount]],
    drift: {},
    said: [],
  });
}
