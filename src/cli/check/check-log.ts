import { existsSync } from "node:fs";
import type { Config } from "../../config/config.ts";
import type { Finding } from "../../core/contracts/connector.ts";
import { findMillraceError } from "../../core/errors.ts";
import type { LogAdmin } from "../../core/contracts/log-admin.ts";
import { hasIdentity, type StateStore } from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { openSource, memoryOf } from "../../daemon/ruled-source.ts";
import { openState } from "../../state/open.ts";
import { askLog } from "./ask-log.ts";
import { checkPositions } from "./check-positions.ts";
import { noMemory } from "../../rules/former-rules.ts";
import { liveHolder } from "../read-state.ts";

/**
 * What a start would find about the log: whether the source and each sink can continue in it (`part` is then the sink's
 * name), and whether another daemon reads it.
 */
export async function checkLog(
  config: Config,
  signal: AbortSignal,
): Promise<readonly (Finding & { readonly part?: string })[]> {
  const state = await openKnown(config);
  try {
    // A running daemon has checked this, and checks it at each connection.
    if (state !== null && (await liveHolder(state)) !== null) return [];
    const record = (await state?.source.get()) ?? null;
    const source = await openSource(config, state === null ? noMemory() : await memoryOf(config, state), SILENT);
    try {
      if (record !== null && hasIdentity(record)) {
        const { forecasts, isSame } = await askLog(source, state!, config.sinks, record, signal);
        if (!isSame) return [];
        await source.admin.expectFree?.(record.identity, signal);
        return await checkPositions(config, forecasts, record, await source.log.tip(signal));
      }
      if (record === null) await source.admin.expectFree?.(null, signal);
      return [];
    } catch (error) {
      return told(source.admin, error);
    } finally {
      await source.close();
    }
  } finally {
    await state?.close();
  }
}

const READ_BY_ANOTHER = "MR2012";

/** A source that can't be reached, or has wrong settings, is reported by the source's own findings. */
function told({ losses }: LogAdmin, error: unknown): readonly Finding[] {
  const known = findMillraceError(error);
  if (known === undefined) throw error;
  if (!losses.has(known.code) && known.code !== READ_BY_ANOTHER) return [];
  // A start waits: the session may belong to a daemon that lost its connection.
  const level = known.kind === "retryable" ? "warning" : "error";
  return [{ id: "log", level, what: `${known.code} ${known.message}`, fix: known.hint ?? null }];
}

/** Null if there is no state yet. Errors of the state are a finding of its own. */
async function openKnown({ name, state }: Config): Promise<StateStore | null> {
  if (state.url.startsWith("sqlite:") && !existsSync(state.url.slice("sqlite:".length))) return null;
  try {
    return await openState(state, { name, readOnly: true });
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  }
}
