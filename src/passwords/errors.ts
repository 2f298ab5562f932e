import type { ErrorArea, ErrorPages } from "../core/errors.ts";

export const area: ErrorArea = { from: 2900, title: "Passwords from commands and files" };

export const pages: ErrorPages = {
  MR2901: {
    title: "The command of passwordCommand gives no password",
    cause:
      "Millrace runs the command before each new connection, and its standard output is the password. It can't be started, " +
      "ends with another code than 0, prints nothing or more than 64 KB, or takes longer than 10 s. What it prints is never " +
      "shown. Millrace tries again for as long as it takes, and `status` says that somebody has to act; for the password of " +
      "the state it tries as long as its lease lasts.",
    remedy:
      "Run the command yourself, as the daemon's user, with the daemon's environment and in the folder of millrace.yaml: it must print the password alone and " +
      "end with 0 within 10 s. Write a path with `./` if the program lies beside millrace.yaml.",
  },
  MR2902: {
    title: "The file of passwordFile can't be read",
    cause:
      "Millrace reads the file before each new connection. It does not exist, can't be read, is empty or is larger than 64 KB. " +
      "Millrace tries again for as long as it takes, and `status` says that somebody has to act; for the password of the " +
      "state it tries as long as its lease lasts.",
    remedy:
      "Write the password alone into the file, and let the daemon's user read it. Replace it in one step (`mv NEW FILE`), so that no half of it is read.",
  },
};
