import type { Config, SinkConfig } from "../config/config.ts";
import type { Finding } from "../core/connector.ts";
import { findMillraceError } from "../core/errors.ts";
import type { SourceRecord, StateStore } from "../core/state-store.ts";
import { SILENT } from "../core/telemetry.ts";
import { sinkAhead } from "../runtime/errors.ts";
import { isBeyondLog, onLostOf, standingOf } from "../runtime/standing.ts";
import { withSink } from "./opened-sink.ts";

/** The log as the state knows it, and where it ends now. */
interface KnownLog {
  readonly record: SourceRecord;
  readonly tip: bigint;
}

/** What the start would say of where each sink stands, by the same decision. Takes no sink over. */
export async function checkStandings(
  config: Config,
  state: StateStore,
  log: KnownLog,
  signal: AbortSignal,
): Promise<readonly (Finding & { readonly part: string })[]> {
  const found = config.sinks.map(async (sink) =>
    (await checkStanding(sink, state, log, signal)).map((finding) => ({ part: sink.name, ...finding })),
  );
  return (await Promise.all(found)).flat();
}

async function checkStanding(
  config: SinkConfig,
  state: StateStore,
  { record: { acknowledged, epoch, origin }, tip }: KnownLog,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { name } = config;
  const record = await state.sinks.get(name);
  // An operator has put it elsewhere: where it stands does not count.
  if (record?.reset != null) return [];
  return await withSink(SILENT, config, async (sink) => {
    const own = await sink.look(signal).catch(() => undefined);
    // Why it can't be asked is among its own findings.
    if (own === undefined) return [];
    const accord = await state.bonds.accord(name, own?.bond);
    try {
      const standing = standingOf(name, { own, record, accord }, acknowledged ?? origin);
      if (standing.kind === "known" && isBeyondLog(standing.covered, epoch, tip)) throw sinkAhead(name);
      return [];
    } catch (error) {
      const known = findMillraceError(error);
      if (known === undefined) throw error;
      const { code, message, hint } = known;
      if (code === "MR1301" && onLostOf(sink, config.onLost) === "resync")
        return [{ id: code, level: "warning", what: `${code} ${message}`, fix: "the start fills it again" }];
      return [{ id: code, level: "error", what: `${code} ${message}`, fix: hint ?? null }];
    }
  });
}
