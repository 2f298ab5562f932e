import { existsSync } from "node:fs";
import type { Config } from "../config/config.ts";
import type { Finding } from "../core/connector.ts";
import { findMillraceError } from "../core/errors.ts";
import { SILENT } from "../core/telemetry.ts";
import { readState } from "./read-state.ts";

/** Whether the source still keeps the log for what the state knows: a slot that is gone would be made by a first start only. */
export async function checkLog(config: Config, signal: AbortSignal): Promise<readonly Finding[]> {
  if (!(await hasBegun(config))) return [];
  const source = await config.source.connector.create(SILENT);
  try {
    if ((await source.earliest(signal)) !== null) return [];
  } catch (error) {
    // A source that can't be asked is among the source's own findings.
    if (findMillraceError(error) !== undefined) return [];
    throw error;
  } finally {
    await source.close();
  }
  const what =
    "the source no longer keeps the log for this daemon: changes since its last position are out of the stream's reach";
  const fix =
    "If url and slot are right, begin anew: move the state away and start; every table is read again over what the sinks hold (docs/troubleshooting.md).";
  return [{ id: "log", level: "error", what, fix }];
}

/** Whether an earlier start got as far as knowing its log. */
async function hasBegun(config: Config): Promise<boolean> {
  const { state } = config;
  if (state.startsWith("sqlite:") && !existsSync(state.slice("sqlite:".length))) return false;
  try {
    const record = await readState(config, async ({ source }) => await source.get());
    return record !== null && record.identity !== null;
  } catch (error) {
    // What is wrong with the state is a finding of its own.
    if (findMillraceError(error) !== undefined) return false;
    throw error;
  }
}
