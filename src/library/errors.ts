import { type ErrorPages, raising } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1171: {
    title: "An option of `follow` can't be used",
    remedy: "Correct the option; the message says what is expected there.",
    cause:
      'An option is missing, has a wrong form, or does not go together with another one: a position that no transaction of this source had, or `unchanged: "complete"` without `state`.',
    seen: "start",
  },
  MR1172: {
    title: "A transaction was done after the end",
    remedy: "Nothing: the transaction comes again at the next start.",
    cause:
      "`done()` was called after the loop over `follow` had been left, or had ended with an error: nobody stores that any more.",
  },
  MR1173: {
    title: "A table can't be followed without `state`",
    remedy:
      "Correct what the message names. Or give `state`: then the other tables go on, and this one is read again when it can be followed.",
    cause:
      "Changes of a table have to be skipped, for instance because it lost its key. Without `state` nobody would know after the next start that they are missing, so `follow` ends here.",
    seen: "suspended",
  },
};

export const libraryError = raising(pages);
