/** `part` with some members replaced. */
export function replacing<T extends object>(part: T, others: Partial<T>): T {
  // Some are called for each cell of a row.
  const bound = new WeakMap<object, unknown>();
  return new Proxy(part, {
    get(target, name) {
      if (Reflect.has(others, name)) return Reflect.get(others, name);
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      if (!bound.has(member)) bound.set(member, member.bind(target));
      return bound.get(member);
    },
  });
}
