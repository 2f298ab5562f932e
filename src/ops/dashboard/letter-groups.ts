import type { DeadLetter } from "../../core/contracts/state-store.ts";

export interface LetterGroup {
  readonly sink: string;
  readonly table: string;
  readonly code: string;
  readonly cause: string;
  readonly count: number;
  readonly oldest: string;
  readonly newest: string;
}

/** Letters with the same sink, table and cause, the largest group first; with the numbers of each, the lowest first. */
export function groupsOf(
  letters: readonly DeadLetter[],
): readonly (LetterGroup & { readonly ids: readonly number[] })[] {
  const byCause = Map.groupBy(letters, ({ sink, tableId, code, reason }) =>
    JSON.stringify([sink, tableId, code, reason]),
  );
  const groups = [...byCause.values()].map((own) => {
    const { sink, tableId: table, code, reason: cause } = own[0]!;
    const times = own.map(({ createdAt }) => createdAt).toSorted();
    const ids = own.map(({ id }) => id).toSorted((a, b) => a - b);
    return { sink, table, code, cause, count: own.length, oldest: times[0]!, newest: times.at(-1)!, ids };
  });
  return groups.toSorted((a, b) => b.count - a.count);
}
