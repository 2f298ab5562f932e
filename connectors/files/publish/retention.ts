/** Removes what is older than `keep`: the files of the oldest manifests, and then each manifest. */
import * as z from "zod";
import { eachOf } from "../../../src/core/each-of.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import { filesError, refusalThere } from "../errors.ts";
import { MANIFESTS, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";

/** A log that was kept for long before gets shorter with each set of files that is added. */
const MANIFESTS_PER_PASS = 100;
const REMOVALS_AT_ONCE = 10;

const AGED = z.object({
  madeMs: z.number(),
  files: z.array(z.object({ path: z.string(), table: z.string() })),
});

export class Retention {
  readonly #store: Store;
  readonly #keepMs: number;
  /** Why old files stay. */
  hint: TargetHint | null = null;

  constructor(store: Store, keepMs: number) {
    this.#store = store;
    this.#keepMs = keepMs;
  }

  /**
   * Up to the manifest `newest`, which stays: it says which numbers are used. A manifest goes after its files, so that one that
   * is interrupted is removed the next time. One whose files may not be removed stays, with those after it.
   */
  async expire(newest: number, nowMs: number, signal: AbortSignal): Promise<void> {
    const isOlder = (key: string): boolean => (numberOf(key, MANIFESTS) ?? newest) < newest;
    for (const key of await this.#store.find(MANIFESTS, { is: isOlder, countMax: MANIFESTS_PER_PASS }, signal)) {
      const bytes = await this.#store.read(key, signal);
      if (bytes === null) continue;
      const manifest = AGED.safeParse(JSON.parse(bytes.toString("utf8")));
      if (!manifest.success) throw filesError("MR3202", "fatal", `${key} is not a manifest of Millrace's`);
      if (manifest.data.madeMs > nowMs - this.#keepMs) break;
      let areRemoved = true;
      await eachOf(manifest.data.files, REMOVALS_AT_ONCE, async ({ path, table }) => {
        if (!(await this.#isRemoved(path, table, signal))) areRemoved = false;
      });
      if (!areRemoved) return;
      await this.#store.remove(key, signal);
    }
    this.hint = null;
  }

  async #isRemoved(path: string, table: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#store.remove(path, signal);
      return true;
    } catch (error) {
      const refusal = refusalThere(error);
      if (refusal === null) throw error;
      const { code, message, hint = "" } = refusal;
      this.hint = { table, what: `files that are older than \`keep\` stay: ${code} ${message}`, fix: hint };
      return false;
    }
  }
}
