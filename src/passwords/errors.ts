import type { ErrorPages } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR2901: {
    title: "A password can't be had",
    remedy:
      "Run the command of `passwordCommand` as the daemon's user, with its environment, in the folder of millrace.yaml: it must print only the password and end with 0 within 10 s (a program beside millrace.yaml is `./NAME`). Let the daemon's user read `passwordFile`, and replace it in one step (`mv NEW FILE`).",
    cause:
      "Before a new connection the command failed, printed nothing or more than 64 KB, or took too long; or the file is missing, empty or can't be read. Millrace tries again; for the state, as long as its lease lasts.",
  },
};
