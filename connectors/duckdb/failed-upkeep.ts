import type { TargetHint } from "../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../src/core/errors.ts";

interface Failure {
  count: number;
  hint: TargetHint;
}

/** What upkeep could not do last: by its table, or for all of them (null). What may be chance counts from the second time on. */
export class FailedUpkeep {
  readonly #failures = new Map<string | null, Failure>();

  get hints(): readonly TargetHint[] {
    return [...this.#failures.values()].flatMap(({ count, hint }) => (count > 1 ? [hint] : []));
  }

  failed(table: string | null, what: string, { code, message, hint }: MillraceError, mayBeChance: boolean): void {
    const count = (this.#failures.get(table)?.count ?? 0) + (mayBeChance ? 1 : 2);
    const fix = hint ?? `millrace explain ${code}`;
    this.#failures.set(table, { count, hint: { table, what: `${what}: ${message} (${code})`, fix } });
  }

  /** It is not tried, for as long as something of the table's owner is in the way. */
  refused(table: string, what: string, fix: string): void {
    this.#failures.set(table, { count: 2, hint: { table, what, fix } });
  }

  done(table: string | null): void {
    this.#failures.delete(table);
  }

  /** Tables that are gone have nothing that fails. */
  keepOnly(tables: readonly string[]): void {
    for (const table of this.#failures.keys()) if (table !== null && !tables.includes(table)) this.done(table);
  }
}
