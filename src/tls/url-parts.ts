/** Users and passwords in URLs. */
import * as z from "zod";

export const STRAY = "has a % that is not followed by two hexadecimal digits (a literal % is written %25)";

/** Decodes a percent-encoded part of a URL; `refuse` makes the error of one that can't be decoded. */
export function decodePercent(text: string, refuse: (why: string) => Error): string {
  const decoded = decodedOrNull(text);
  if (decoded === null) throw refuse(STRAY);
  return decoded;
}

export function decodedOrNull(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** A key for a URL, of which `loginIn` can be asked. `form`: how it looks. */
export function urlKey(scheme: RegExp, form: string): z.ZodString {
  return z
    .string()
    .regex(scheme, { error: form, abort: true })
    .refine((text) => URL.canParse(text), { error: form })
    .superRefine((text, issues) => {
      const { username: user = "", password = "" } = URL.parse(text) ?? {};
      for (const [name, part] of Object.entries({ user, password }))
        if (decodedOrNull(part) === null) issues.addIssue({ code: "custom", message: `its ${name} ${STRAY}` });
    });
}

/** Empty: it names none. */
export function loginIn(url: string | URL): { readonly username: string; readonly password: string } {
  const { username, password } = new URL(url);
  return { username: decodeURIComponent(username), password: decodeURIComponent(password) };
}
