import { userInfo } from "node:os";

/** The user of this process. A user id without a name is shown as its number. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // Many containers have no entry for the user.
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
