import type { StateStore } from "../core/contracts/state-store.ts";

type Around = (call: () => Promise<unknown>) => Promise<unknown>;

/** The same state; each call of one of its parts goes through `around`. */
export function aroundCalls(store: StateStore, around: Around): StateStore {
  const members = Object.entries(store).map(([name, part]: [string, unknown]) => [
    name,
    typeof part === "object" && part !== null ? wrapped(part, around) : part,
  ]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same members, each of the same type
  return Object.fromEntries(members) as StateStore;
}

function wrapped(part: object, around: Around): object {
  const made = new Map<string | symbol, unknown>();
  return new Proxy(part, {
    get: (target, property) => {
      if (made.has(property)) return made.get(property);
      const member: unknown = Reflect.get(target, property);
      if (typeof member !== "function") return member;
      const method = (...given: readonly unknown[]): Promise<unknown> =>
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every method of a store is asynchronous
        around(() => Reflect.apply(member, target, given) as Promise<unknown>);
      made.set(property, method);
      return method;
    },
  });
}
