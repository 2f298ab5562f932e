import type { ChangeStream, StreamOptions } from "../../../src/core/contracts/change-log.ts";
import type { TableShape } from "../../../src/core/contracts/catalog.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { comparePositions, type Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { isLoggedCopy } from "../../kit/online-copies.ts";
import { scopeOf } from "../../../src/core/clock.ts";
import type { CommittedRecord } from "../client/partition.ts";
import { classifySource, logError } from "../errors.ts";
import { type Framed, LogTopic, Walk } from "./log-topic.ts";
import type { LogReader } from "./admin.ts";
import type { SourceContext } from "./context.ts";
import type { Followed } from "./followed.ts";

/** Reads the log's frames from a position on. It goes on only where each frame begins at, or before, the end of the one before. */
export class FrameStream implements ChangeStream {
  readonly #context: SourceContext;
  readonly #followed: Followed;
  readonly #options: StreamOptions;
  readonly #log: LogTopic;
  readonly #frames: AsyncGenerator<Framed>;
  readonly #over = scopeOf();
  /** By table id, the version in which it was shown last; null: it is left out. */
  readonly #shown = new Map<string, { readonly fingerprint: string; readonly table: TableVersion | null }>();
  /** Commit positions of renames that it has told, and not passed. */
  readonly #renamedAt: bigint[] = [];
  readonly #walk: Walk;
  /** Whether it has come to its own epoch: no earlier one can follow. */
  #isInEpoch: boolean;

  private constructor(
    { context, followed }: LogReader,
    options: StreamOptions,
    { log, frames, from, isInEpoch }: Opened,
  ) {
    this.#context = context;
    this.#followed = followed;
    this.#options = options;
    this.#log = log;
    this.#frames = frames(this.#over.signal);
    this.#walk = new Walk(from);
    this.#isInEpoch = isInEpoch;
  }

  static async open(
    reader: LogReader,
    from: Position,
    options: StreamOptions,
    signal: AbortSignal,
  ): Promise<FrameStream> {
    const { context, followed } = reader;
    try {
      await using opening = new AsyncDisposableStack();
      const log = opening.use(await LogTopic.open(context, signal));
      followed.expectSame(log.id);
      followed.heldBack = log.heldBack;
      const { first, stable } = await log.extent(signal);
      const all = { from: first, until: stable };
      followed.adopt(await log.last(all, signal));
      // Renames behind a position may be at the end of the frame before it.
      const known = followed.offsetBefore(from.commit - 1n);
      // An offset that the topic no longer has, or not yet: whatever is missing shows as a gap between the positions.
      const isThere = known !== null && known >= first && known <= stable;
      const start = isThere ? known : await log.offsetBefore(all, from, followed, signal);
      const onForeign = ({ offset }: CommittedRecord): void => followed.passedOver(log.name, offset);
      const frames = (until: AbortSignal) => log.frames({ from: start, until: null }, until, onForeign);
      opening.move();
      return new FrameStream(reader, options, { log, frames, from, isInEpoch: isThere });
    } catch (error) {
      throw classifySource(error, signal);
    }
  }

  async next(signal: AbortSignal): Promise<Block> {
    const stop = (): void => this.#over.end();
    signal.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        signal.throwIfAborted();
        const { value, done } = await this.#frames.next();
        if (done === true) throw logError("MR2029", "aborted", "the stream is closed");
        const block = await this.#blockOf(value, signal);
        if (block !== null) return block;
      }
    } catch (error) {
      const known = classifySource(error, signal);
      // When the stream is opened again, it finds out which.
      if (known.kind !== "reopen") throw known;
      throw logError("MR2006", "retryable", `topic ${this.#log.name} is gone, or was made again`, { cause: error });
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** Null: it has nothing new. */
  async #blockOf(framed: Framed, signal: AbortSignal): Promise<Block | null> {
    const { frame, last } = framed;
    if (this.#followed.isEarlier(frame)) {
      if (this.#isInEpoch) throw this.#followed.wentBack(frame);
      return null;
    }
    this.#isInEpoch = true;
    if (this.#followed.isLater(frame)) {
      return await this.#followed.moved(this.#walk.at, frame, signal);
    }
    const step = this.#walk.step(frame, this.#log.name);
    if (step === null) return null;
    const { since, until } = step;
    const tableOf = (shape: TableShape, position: Position) => this.#tableOf(shape, position);
    const { markOf } = this.#followed;
    const onRenamed: NonNullable<StreamOptions["onRenamed"]> = async (renames, position) => {
      this.#renamedAt.push(position.commit);
      await this.#options.onRenamed?.(renames, position);
    };
    const areNamesOthers = (commit: bigint): boolean => this.#areNamesOthers(commit);
    const reading = { epoch: until.epoch, since, markOf, tableOf, onRenamed, areNamesOthers };
    const { block, lost, announced } = await this.#log.contentOf(framed, reading);
    // Otherwise it was read for what it says of renames behind it.
    const isNews = since === null || comparePositions(since, until) < 0;
    // Before the stream passes the position.
    const passedBy = await this.#underOtherRules(isNews ? announced : [], { ...frame.from, epoch: until.epoch });
    for (const id of isNews ? lost : []) await this.#options.onUnloggedRows?.(id, "passed by");
    for (const id of passedBy) await this.#options.onUnloggedRows?.(id);
    this.#followed.passed(until, last + 1n);
    return block;
  }

  /** Rules follow the tables: what a name stood for before says nothing. */
  #areNamesOthers(commit: bigint): boolean {
    const passed = this.#renamedAt.findIndex((at) => at > commit);
    if (this.#renamedAt.length === 0 || passed === 0) return false;
    this.#renamedAt.splice(0, passed < 0 ? this.#renamedAt.length : passed);
    this.#shown.clear();
    return true;
  }

  /**
   * Ids of tables that have other rules from here on than before. Changes may have been left out under rules of which no row
   * tells.
   */
  async #underOtherRules(announced: readonly TableShape[], at: Position): Promise<readonly string[]> {
    const ids: string[] = [];
    for (const shape of announced) {
      const table = await this.#tableOf(shape, at);
      if (table !== null && comparePositions(table.since, at) === 0) ids.push(table.id);
    }
    return ids;
  }

  async #tableOf(shape: TableShape, position: Position): Promise<TableVersion | null> {
    const { captures, isLiteral } = this.#context;
    const before = this.#shown.get(shape.id);
    if (before?.fingerprint === shape.fingerprint) return before.table;
    const { resolve, isKnown } = this.#options;
    const isCaptured = captures(shape);
    const isFollowed =
      isCaptured &&
      (shape.key.length > 0 || isKnown?.(shape.id) !== false) &&
      (isLiteral(shape) || !(await isLoggedCopy(shape, this.#options, async () => [])));
    const table = isFollowed ? await resolve(shape, position) : null;
    // One that is refused may be followed since: a look at the catalogue decides.
    if (isCaptured && table === null) this.#shown.delete(shape.id);
    else this.#shown.set(shape.id, { fingerprint: shape.fingerprint, table });
    return table;
  }

  /** Kafka keeps the log for as long as the topic says. */
  acknowledge(commit: bigint): void {
    this.#followed.acknowledged(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.end();
    await this.#log[Symbol.asyncDispose]();
  }
}

interface Opened {
  readonly log: LogTopic;
  readonly frames: (until: AbortSignal) => AsyncGenerator<Framed>;
  readonly from: Position;
  readonly isInEpoch: boolean;
}
