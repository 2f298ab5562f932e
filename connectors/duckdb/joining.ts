/** What all users of one open store must agree on. */
import { duckdbError, targetsMeet } from "./errors.ts";

/** Which sink and table write to a target. */
interface Writer {
  readonly sink: string;
  readonly tableId: string;
}

/** Which sink writes which target. */
export class Writers {
  readonly #writers = new Map<string, Writer>();

  /**
   * Throws if another sink writes it. Within one sink the sink decides which of its tables uses a target: a table may replace a
   * dropped one whose name differed only in case.
   */
  claim(target: string, writer: Writer): void {
    const holder = this.#writers.get(target);
    if (holder !== undefined && holder.sink !== writer.sink)
      throw targetsMeet(writer.tableId, `${target}, which belongs to sink ${holder.sink}`);
    this.#writers.set(target, writer);
  }
}

interface Settings {
  readonly memoryLimit: string;
  readonly threads: number;
}

/** Throws if the open store can't have another user with these settings. */
export function expectJoinable(
  store: { readonly broken: boolean; readonly settings: Settings },
  asked: Settings,
  name: string,
): void {
  if (store.broken) {
    const message = `${name} was given up after an error; it is opened again when all that read it here have left`;
    throw duckdbError("MR3216", "retryable", message, { reason: "in-use" });
  }
  if (asked.memoryLimit !== store.settings.memoryLimit || asked.threads !== store.settings.threads) {
    throw duckdbError("MR2004", "fatal", `two sinks open ${name} with different memoryLimit or threads`, {
      hint: "give both the same settings",
    });
  }
}
