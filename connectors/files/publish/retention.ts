/** Removes what is older than `keep`: the files of the oldest manifests, and then each manifest. */
import * as z from "zod";
import { filesError } from "../errors.ts";
import { MANIFESTS, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";

/** A log that was kept for long before gets shorter with each set of files that is added. */
const MANIFESTS_PER_PASS = 100;

const AGED = z.object({
  madeMs: z.number(),
  files: z.array(z.object({ path: z.string() })),
});

export class Retention {
  readonly #store: Store;
  readonly #keepMs: number;

  constructor(store: Store, keepMs: number) {
    this.#store = store;
    this.#keepMs = keepMs;
  }

  /**
   * Up to the manifest `newest`, which stays: it says which numbers are used. A manifest goes after its files, so that one that
   * is interrupted is removed the next time.
   */
  async expire(newest: number, nowMs: number, signal: AbortSignal): Promise<void> {
    const isOlder = (key: string): boolean => (numberOf(key, MANIFESTS) ?? newest) < newest;
    for (const key of await this.#store.find(MANIFESTS, { is: isOlder, countMax: MANIFESTS_PER_PASS }, signal)) {
      const bytes = await this.#store.read(key, signal);
      if (bytes === null) continue;
      const manifest = AGED.safeParse(JSON.parse(bytes.toString("utf8")));
      if (!manifest.success) throw filesError("MR3202", "fatal", `${key} is not a manifest of Millrace's`);
      if (manifest.data.madeMs > nowMs - this.#keepMs) break;
      for (const { path } of manifest.data.files) await this.#store.remove(path, signal);
      await this.#store.remove(key, signal);
    }
  }
}
