/** Whether reading tables again brings back a sink that has failed. */
import type { SinkForm } from "../../core/contracts/sink.ts";
import type { StoredError } from "../../core/contracts/state-store.ts";
import type { Position } from "../../core/model/position.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import { notReadAgain, SINK_AHEAD } from "../errors.ts";

/** The sink's position does not fit the log: as long as it has that position, it takes nothing. */
const OF_POSITION: ReadonlySet<string> = new Set(["MR1301", SINK_AHEAD, "MR1317"]);

interface FailedSink {
  readonly name: string;
  readonly form: SinkForm;
  /** Null: it has not failed. */
  readonly error: StoredError | null;
}

export function failedSink({ name, worker, state, error }: SinkLife): FailedSink {
  return { name, form: worker.sink.form, error: state === "failed" ? error : null };
}

/** Throws if the request would be stored, and the sink stay as it is. `isWhole`: for all rows of all tables. */
export function expectReadable({ name, form, error }: FailedSink, isWhole: boolean): void {
  if (error === null || !OF_POSITION.has(error.code)) return;
  // Only a mirror's rows of a later epoch can be replaced.
  if (error.code === SINK_AHEAD && form !== "mirror") throw notReadAgain(name, error, error.hint);
  if (!isWhole)
    throw notReadAgain(name, error, `millrace snapshot start --sink ${name}: it fills the whole sink again`);
}

/** Opens a failed sink again. `position`: not null if all of its rows were asked for; then it is filled whatever it holds. */
export async function revive(life: SinkLife, position: Position | null): Promise<void> {
  if (position !== null) await life.fillAgain(position);
  else await life.resume();
}
