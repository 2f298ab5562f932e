import { type Clock, pause, scopeOf, timestamp } from "../../core/clock.ts";
import { abortedError, findMillraceError, type Login, withLogin } from "../../core/errors.ts";
import type { News } from "../../core/waiting.ts";
import type { Blocker } from "../../core/contracts/watermarks.ts";
import type { CapturedTables, TableShape } from "../../core/contracts/catalog.ts";
import type { Source } from "../../core/contracts/source.ts";
import { type StateStore, type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { Position } from "../../core/model/position.ts";
import { type Logger, Repeated } from "../../core/contracts/telemetry.ts";
import type { FanOut } from "../stream/fan-out.ts";
import { CORRECTED_AT_SOURCE, readFailed } from "../errors.ts";
import { kindOf } from "../retry.ts";
import type { TableGate } from "./table-gate.ts";

interface CatalogWatchParts {
  readonly clock: Clock;
  readonly news: News;
  readonly source: {
    readonly catalog: Pick<Source["catalog"], "publish" | "tables">;
    readonly watermarks: Pick<Source["watermarks"], "renew" | "settle">;
  };
  readonly state: StateStore;
  readonly gate: TableGate;
  readonly fanOut: FanOut;
  readonly intervalMs: number;
  /** Whether some sink holds a complete copy of the table as it is now, or no sink takes it: nothing waits for its rows. */
  readonly isHeld: (tableId: string, generation: string) => boolean;
  /** Reads suspended tables again, and reinstates them. */
  readonly reinstate: (tableIds: readonly string[]) => Promise<void>;
  /** A look has ended. */
  readonly onLooked: () => void;
  readonly login?: Login | null | undefined;
  readonly logger: Logger;
}

/**
 * Looks at the source's catalogue regularly, and on request. It finds tables that were created, and changes of tables that
 * the log does not show.
 */
export class CatalogWatch {
  readonly #parts: CatalogWatchParts;
  #begun = 0;
  #ended = 0;
  #wake = scopeOf();
  /** Ended when somebody waits for a look. */
  #asked = scopeOf();
  #waiting: (() => void)[] = [];
  #toConfirm: ToConfirm | null = null;
  /** Ids of tables that can't be read before older transactions have ended. */
  #waitingFor: readonly string[] = [];
  #isSettling = false;
  #failure: unknown = undefined;
  #notLooked: StoredError | null = null;
  /**
   * Table id -> the generation for which all transactions have ended that may have written to the table while it was
   * unpublished.
   */
  readonly #settled = new Map<string, string>();

  constructor(parts: CatalogWatchParts) {
    this.#parts = parts;
  }

  /** Looks soon. */
  wake(): void {
    this.#wake.end();
  }

  /** True when the catalogue was read at least once. */
  get hasLooked(): boolean {
    return this.#ended > 0;
  }

  /** Why the catalogue could not be read since the start; null: it was read, or no attempt has failed yet. */
  get notLooked(): StoredError | null {
    return this.#notLooked;
  }

  /** Ids of tables whose new shape the stream has not reached yet. */
  get changing(): readonly string[] {
    return this.#toConfirm?.shapes.map(({ id }) => id) ?? [];
  }

  /** Ids of tables that can't be read yet: older transactions may have written to them while they were not published. */
  get unsettled(): readonly string[] {
    return this.#waitingFor;
  }

  /** Resolves when a look that began after the call has succeeded. */
  async look(signal: AbortSignal): Promise<void> {
    const from = this.#begun;
    while (this.#ended <= from) {
      signal.throwIfAborted();
      this.#asked.end();
      await new Promise<void>((resolve, reject) => {
        const onAbort = () => reject(abortedError(signal));
        signal.addEventListener("abort", onAbort, { once: true });
        this.#waiting.push(() => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        });
      });
    }
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock, intervalMs, logger } = this.#parts;
    const repeated = new Repeated(logger);
    for (;;) {
      this.#wake = scopeOf();
      this.#asked = scopeOf();
      const look = ++this.#begun;
      const begunMs = clock.elapsed();
      let tookMs = 0;
      try {
        await this.#once(signal);
        this.#parts.onLooked();
        this.#ended = look;
        this.#notLooked = null;
        repeated.passed();
        tookMs = clock.elapsed() - begunMs;
      } catch (error) {
        signal.throwIfAborted();
        // An error that a retry can't remove may mean a gap in the changes: nothing more may pass.
        if (kindOf(error) === "fatal") throw error;
        repeated.failed(error, "the source's tables could not be read; the next attempt follows");
        if (!this.hasLooked) this.#notLooked = this.#why(error);
        await clock.sleep(Math.min(intervalMs, FAILED_MS), signal);
      }
      for (const told of this.#waiting.splice(0)) told();
      this.#parts.news.tell();
      await pause(clock, tookMs * RESTS_WOKEN, signal, this.#asked.signal);
      await this.#rest(Math.max(this.#pauseMs, tookMs * RESTS), signal);
      signal.throwIfAborted();
    }
  }

  #why(error: unknown): StoredError {
    const { clock, login } = this.#parts;
    const at = timestamp(clock);
    const known = findMillraceError(error) ?? readFailed("the catalogue", error);
    return storedErrorOf(withLogin(known, login), at, this.#notLooked?.since ?? at);
  }

  /** Rests until the next look is due, something asks for one, or the stream has passed the watermark of new shapes. */
  async #rest(restMs: number, signal: AbortSignal): Promise<void> {
    const { clock, news, fanOut } = this.#parts;
    const [wake, asked] = [this.#wake.signal, this.#asked.signal];
    const mark = this.#toConfirm?.mark;
    using resting = scopeOf(signal, wake, asked);
    if (mark === undefined) return await pause(clock, restMs, resting.signal);
    const dueMs = clock.elapsed() + restMs;
    for (let told = news.count; fanOut.position.commit <= mark; told = news.count) {
      const leftMs = dueMs - clock.elapsed();
      if (resting.signal.aborted || leftMs <= 0) return;
      await news.after(told, clock, leftMs, resting.signal).catch(() => undefined);
    }
  }

  get #pauseMs(): number {
    const { intervalMs, gate } = this.#parts;
    return gate.refused.some(({ isPassing }) => isPassing === true) ? Math.min(intervalMs, FAILED_MS) : intervalMs;
  }

  /** Publishes matching tables that are not published yet, and starts reading the rows that the log does not bring. */
  async #once(signal: AbortSignal): Promise<void> {
    const { source, state, gate, fanOut, logger } = this.#parts;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
    const onWait = ({ what, fix }: Blocker) => {
      logger.info({}, `a table waits to be captured until an older transaction ends: ${what}. ${fix}`);
    };
    await source.catalog.publish((identity) => state.source.identify(identity), signal);
    const lookedAt = gate.changing;
    const reached = fanOut.position;
    const captured = await source.catalog.tables(signal, gate.every);
    // Invariant: a table is read only after all transactions have ended that may have written to it while it was
    // unpublished. That may take long, and nothing else waits for it.
    const open = this.#unsettled(captured);
    if (open.size > 0 && !this.#isSettling) void this.#settle(open, onWait, signal);
    const readable = new Map([...captured.generations].filter(([id]) => !open.has(id)));
    await gate.discover({ ...captured, generations: readable }, lookedAt, fanOut.position);
    this.#waitingFor = [...open.keys()];
    const toConfirm = await this.#confirmShapes(captured, reached, signal);
    await this.#reinstateReturned(captured);
    // Set last, so that a caller that waits for a table sees it either here or reinstated.
    this.#toConfirm = toConfirm;
  }

  async #settle(
    open: ReadonlyMap<string, string>,
    onWait: (blocker: Blocker) => void,
    signal: AbortSignal,
  ): Promise<void> {
    this.#isSettling = true;
    try {
      await this.#parts.source.watermarks.settle?.(onWait, signal);
      for (const [id, generation] of open) this.#settled.set(id, generation);
    } catch (error) {
      this.#failure = error;
    }
    this.#isSettling = false;
    this.#wake.end();
  }

  async #reinstateReturned(captured: CapturedTables): Promise<void> {
    const { gate, reinstate, logger } = this.#parts;
    const tables = gate.returned(captured);
    if (tables.length === 0) return;
    try {
      await reinstate(tables);
      logger.info({ tables }, "the source has what they lacked: reinstated");
    } catch (error) {
      // The stream has just shown that the table lost it again: it stays suspended.
      if (!CORRECTED_AT_SOURCE.has(findMillraceError(error)?.code ?? "")) throw error;
    }
  }

  /**
   * Puts a shape of which the stream shows no row into the stream behind a watermark. If the catalogue has the shape before
   * the watermark, and still has it when the stream has passed the watermark, the shape is in force there. `reached`: where the
   * stream was before the catalogue was read: what the log says of names up to there is in the shapes.
   */
  async #confirmShapes(captured: CapturedTables, reached: Position, signal: AbortSignal): Promise<ToConfirm | null> {
    const { source, gate } = this.#parts;
    const changed = gate.changed(captured);
    const before = this.#toConfirm;
    const isAsBefore = changed.every(({ id, fingerprint }) =>
      before?.shapes.some((shape) => shape.id === id && shape.fingerprint === fingerprint),
    );
    if (changed.length === 0) return null;
    if (before === null || !isAsBefore) return { shapes: changed, mark: await source.watermarks.renew(signal) };
    if (reached.commit <= before.mark) return before;
    for (const shape of changed) await gate.confirm(shape, { ...reached, commit: before.mark, index: 0 });
    // From the change on, the tables' names may mean other tables.
    this.#wake.end();
    return null;
  }

  /** Tables whose rows are needed, and for which nothing has waited yet in their present generation. */
  #unsettled({ generations }: CapturedTables): ReadonlyMap<string, string> {
    const { isHeld } = this.#parts;
    const isOpen = ([id, generation]: [string, string]) =>
      this.#settled.get(id) !== generation && !isHeld(id, generation);
    return new Map([...generations].filter(isOpen));
  }
}

const FAILED_MS = 1_000;
/**
 * A look reads the catalogue of all tables: it takes at most this part of all time, and of the time in which tables change one
 * after another. Who waits for a look gets it at once.
 */
const RESTS = 19;
const RESTS_WOKEN = 3;

interface ToConfirm {
  readonly shapes: readonly TableShape[];
  readonly mark: bigint;
}
