import type { Frame } from "../../../src/core/model/frame.ts";
import { comparePositions, type Position } from "../../../src/core/model/position.ts";
import { kafkaError } from "../errors.ts";

/** A reader's way from frame to frame: each begins where the one before ended, or earlier, where a part of the log was written again. */
export class Walk {
  #at: Position;

  /** `at`: everything before it was read; in the reader's epoch. */
  constructor(at: Position) {
    this.#at = at;
  }

  get at(): Position {
    return this.#at;
  }

  /**
   * What a frame of the log's own epoch brings, in the reader's epoch: everything between `since` (null: its beginning) and
   * `until`. Null: it was read before. Throws at a gap.
   */
  step(
    frame: Pick<Frame, "from" | "until">,
    topic: string,
  ): { readonly since: Position | null; readonly until: Position } | null {
    const since = this.#at;
    const { epoch } = since;
    const until = { ...frame.until, epoch };
    if (comparePositions(until, since) < 0) return null;
    if (this.lacksBefore(frame)) {
      throw kafkaError("MR3520", "fatal", `topic ${topic} does not have the changes that follow those already read`);
    }
    this.#at = until;
    return { since: comparePositions({ ...frame.from, epoch }, since) < 0 ? since : null, until };
  }

  /** Whether changes between here and the frame are in no frame before it. */
  lacksBefore({ from }: Pick<Frame, "from">): boolean {
    return comparePositions({ ...from, epoch: this.#at.epoch }, this.#at) > 0;
  }
}
