/** Passwords in URLs. Without zod (password.ts has it): every command loads this at its start. */

export function passwordIn(url: string): string | undefined {
  const parsed = URL.parse(url);
  return parsed?.searchParams.get("password") ?? (parsed === null ? passwordsIn(url)[0] : parsed.password);
}

/** The url for people, whose client asks for the password. */
export function withoutPassword(url: string): string {
  const place = passwordPlace(url);
  return place === null ? url : `${url.slice(0, place.from - 1)}${url.slice(place.toAtMost)}`;
}

/**
 * The passwords that a url may have, as it is written: up to the `@` before its host, and up to its last `@`. Where these
 * differ, there is an `@` that should have been `%40`.
 */
export function passwordsIn(url: string): readonly string[] {
  const place = passwordPlace(url);
  if (place === null) return [];
  const { from, to, toAtMost } = place;
  return [...new Set([url.slice(from, to), url.slice(from, toAtMost)])].filter((password) => password !== "");
}

/** By hand: urls that can't be used have passwords too, and characters in one may end the login where no program looks for its end. */
function passwordPlace(url: string): { readonly from: number; readonly to: number; readonly toAtMost: number } | null {
  const start = url.indexOf("://") + "://".length;
  const authority = /^[^/?#]*/.exec(url.slice(start))?.[0] ?? "";
  const colon = authority.indexOf(":");
  const [at, last] = [authority.lastIndexOf("@"), url.lastIndexOf("@") - start];
  // A user may have an `@`: user@server:password@host.
  if (start < "://".length || colon < 0 || last < colon || (at >= 0 && at < colon)) return null;
  return { from: start + colon + 1, to: start + (at < 0 ? last : at), toAtMost: start + last };
}
