/** `part` with some members replaced. */
export function replacing<T extends object>(part: T, others: Partial<T>): T {
  return new Proxy(part, {
    get(target, name) {
      if (Reflect.has(others, name)) return Reflect.get(others, name);
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}
