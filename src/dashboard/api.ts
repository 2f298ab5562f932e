/** Requests to the daemon that served this page. The token stays in this tab. */
const TOKEN_KEY = "millrace-token";

export type Answer<T> =
  | { readonly kind: "ok"; readonly value: T }
  | { readonly kind: "token" }
  | { readonly kind: "refused"; readonly code: string; readonly message: string; readonly hint: string | null }
  | { readonly kind: "away" };

export function setToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
}

export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN_KEY) !== null;
}

const ANSWER_MS_MAX = 90_000;

export async function ask<T>(method: "GET" | "POST" | "DELETE", path: string, body?: object): Promise<Answer<T>> {
  const token = sessionStorage.getItem(TOKEN_KEY);
  try {
    const answer = await fetch(path, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      credentials: "omit",
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    const value: unknown = await answer.json();
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the daemon that answers is the one that served this page
    if (answer.ok) return { kind: "ok", value: value as T };
    const { code = `HTTP ${answer.status}`, message = "", hint = null } = errorOf(value);
    if (answer.status === 401 && code === "MR1151") return { kind: "token" };
    return { kind: "refused", code, message, hint };
  } catch {
    return { kind: "away" };
  }
}

function errorOf(value: unknown): { code?: string; message?: string; hint?: string | null } {
  const error: unknown = typeof value === "object" && value !== null && "error" in value ? value.error : null;
  return typeof error === "object" && error !== null ? error : {};
}
