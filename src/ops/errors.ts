import type { ErrorPages } from "../core/errors.ts";

export const pages = {
  MR1151: {
    title: "The admin interface wants a token",
    cause: "`admin.tokens` is set and the request had no bearer token, or one that is not listed.",
    remedy: "Send `Authorization: Bearer TOKEN` with one of the tokens of millrace.yaml.",
  },
  MR1152: {
    title: "The token may look, not act",
    cause: "A viewer's token was used for a request that changes something.",
    remedy: "Use a token with `role: operator`.",
  },
  MR1153: {
    title: "A request to the admin interface failed",
    cause: "The daemon met an error that it does not know while it answered.",
    remedy: "The message and the daemon's log say what it was.",
  },
  MR1155: {
    title: "The request to the admin interface can't be read",
    cause: "Its body is not JSON, has a field that is not known, or one of another type.",
    remedy: "Send JSON with `Content-Type: application/json`; the message says what is wrong with it.",
  },
  MR1156: {
    title: "No such path at the admin interface",
    cause: "The path, or the method for this path, does not exist.",
    remedy:
      "Paths: `/healthz`, `/readyz`, `/metrics`, `/api/v1/status`, `/api/v1/reports`; POST: `/api/v1/pause`, `/api/v1/resume`. `/api/v1/openapi.json` describes all of them. Queries and comparisons are served on the Unix socket alone, for the command line.",
  },
  MR1157: {
    title: "A web page of another origin sent the request",
    cause: "A browser sent a request on behalf of a page that was not loaded from this address.",
    remedy: "Send it by a program, such as curl, or from a page of the same host and port.",
  },
  MR1158: {
    title: "The webhook did not take the message",
    cause:
      "The URL of `reconcile.webhook` could not be reached for some two minutes, or answered with a status other than 2xx. The comparison and its report are not concerned.",
    remedy: "Look at the URL and at whoever listens there; `millrace report list` shows what it was to be told.",
  },
  MR1159: {
    title: "Without tokens the admin address only shows",
    cause:
      "A request over TCP would change something, and `admin.tokens` is empty: every user of the machine, and every web page that a browser there shows, can reach the address.",
    remedy:
      "Use the command line (`millrace pause`, `resume`, `snapshot start`), which speaks to the daemon by its Unix socket, or set `admin.tokens: [{role: operator, token: ${MILLRACE_TOKEN}}]`.",
  },
  MR1160: {
    title: "The request is for a host of another name",
    cause:
      "The `Host` of a request to the admin address is neither a literal IP address, nor `localhost`, nor the host of `admin.listen`, nor one of `admin.hosts`. A web page of a name that its owner makes lead to this address would look like that.",
    remedy:
      "Ask by the address, or list the names under which a proxy or a service leads here: `admin: {hosts: [millrace.example.org]}`.",
  },
  MR1154: {
    title: "The admin address can't be listened on",
    cause: "Another process has the port, or the address is not one of this machine's.",
    remedy: "Give each daemon its own `admin.listen`, or set it to false.",
  },
} as const satisfies ErrorPages;
