import type { Clock } from "../../core/clock.ts";
import { type MillraceError, findMillraceError } from "../../core/errors.ts";
import { earliest, type Position } from "../../core/model/position.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { HeldPositions } from "../../core/contracts/log-admin.ts";
import type { SinkRecord, SourceRecord, StateStore } from "../../core/contracts/state-store.ts";
import { wasApplied } from "../sink/sink-opening.ts";
import { heldFrom, type Continuation, continuationOf } from "../sink/sink-position.ts";
import { withTimeout } from "../../core/waiting.ts";

/** What a start would find out about one sink, by the same decision. The sink is read, but not taken over. */
export type SinkForecast = { readonly record: SinkRecord | null } & (
  | { readonly kind: "continues"; readonly from: Continuation }
  /** An operator has reset its offset; the reset comes first. */
  | { readonly kind: "reset"; readonly to: Position }
  | { readonly kind: "refused"; readonly error: MillraceError }
  /** It is paused, or does not answer. */
  | { readonly kind: "unknown" }
);

const ANSWER_MS_MAX = 10_000;

interface ForecastParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly state: Pick<StateStore, "bonds" | "sinks">;
}

export async function forecastSink(
  { clock, sink, state }: ForecastParts,
  { acknowledged, origin }: SourceRecord,
  signal: AbortSignal,
): Promise<SinkForecast> {
  const record = await state.sinks.get(sink.name);
  const answer = record?.paused === true ? null : await looked(clock, sink, signal);
  const own = answer?.own ?? null;
  if (record?.reset != null) {
    if (own === null || !wasApplied(record.reset, own)) return { record, kind: "reset", to: record.reset.to };
    return { record, kind: "continues", from: { kind: "known", checkpoint: own, covered: own.position } };
  }
  if (answer === null) return { record, kind: "unknown" };
  const accord = await state.bonds.accord(sink.name, own?.bond);
  try {
    return {
      record,
      kind: "continues",
      from: continuationOf(sink.name, { own, record, accord }, acknowledged ?? origin),
    };
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return { record, kind: "refused", error: known };
  }
}

/** Null: the sink does not answer in time. Opening it later reports why. */
async function looked(clock: Clock, sink: Sink, signal: AbortSignal) {
  const look = sink.look(signal).then(
    (own) => ({ own }),
    () => null,
  );
  const answer = await withTimeout(look, { clock, signal, timeoutMs: ANSWER_MS_MAX, late: () => null });
  signal.throwIfAborted();
  return answer;
}

/** The positions that a stream has to reach for sinks that begin like this. Null: nothing shows where it would begin. */
export function heldForecast(
  { acknowledged, epoch, origin }: SourceRecord,
  forecasts: readonly SinkForecast[],
): HeldPositions | null {
  const positions = forecasts.flatMap((one) => {
    if (one.kind === "reset") return [one.to];
    return one.kind === "continues" && one.from.kind === "known" ? [one.from.covered] : [];
  });
  const from = earliest(positions.filter((position) => position.epoch === epoch)) ?? acknowledged ?? origin;
  const known = forecasts.flatMap(({ kind, record }) => (kind === "reset" || record === null ? [] : [record]));
  if (from === null) return null;
  return heldFrom(from, [...positions.map((covered) => ({ covered, checkpoint: null })), ...known]);
}
