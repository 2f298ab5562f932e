import { type ErrorPages, MillraceError } from "../core/errors.ts";
import { serverAt } from "../core/system-errors.ts";

export const pages = {
  MR1151: {
    title: "The admin interface needs a token",
    cause: "`admin.tokens` is set and the request had no bearer token, or one that is not listed.",
    remedy:
      "Send `Authorization: Bearer TOKEN` with one of the tokens of millrace.yaml. A browser that opens the dashboard asks for the token.",
  },
  MR1152: {
    title: "The token allows reading only",
    cause: "A viewer's token was used for a request that changes something.",
    remedy: "Use a token with `role: operator`.",
  },
  MR1153: {
    title: "A request to the admin interface failed",
    cause: "The daemon met an unknown error while it answered.",
    remedy: "The message and the daemon's log describe it.",
  },
  MR1155: {
    title: "The request to the admin interface can't be read",
    cause:
      "Its body is not JSON, has an unknown field, or a field of the wrong type; or it is larger than 256 KB, or arrived too slowly.",
    remedy: "Send JSON with `Content-Type: application/json`; the message says what is wrong with it.",
  },
  MR1156: {
    title: "No such path in the admin interface",
    cause: "The path, or the method for this path, does not exist.",
    remedy:
      "Paths: `/` (the dashboard), `/healthz`, `/readyz`, `/metrics`, `/api/v1/status`, `/api/v1/reports`, `/api/v1/audit`; POST: `/api/v1/pause`, `/api/v1/resume`. `/api/v1/openapi.json` describes all of them. Queries and comparisons are served on the Unix socket alone, for the command line.",
  },
  MR1157: {
    title: "A web page of another origin sent the request",
    cause: "A browser sent a request on behalf of a page that was not loaded from this address.",
    remedy: "Send it from a program, such as curl, or from a page of the same host and port.",
  },
  MR1158: {
    title: "The webhook did not accept the message",
    cause:
      "The URL of `notify.webhook` could not be reached for about two minutes, answered with a status other than 2xx, or its certificate could not be verified. Nothing else is affected: what is not well is told later.",
    remedy:
      "Check the URL and the server behind it; with an authority of your own name its PEM file in `notify.ca`. `millrace status` says what is not well.",
  },
  MR1159: {
    title: "Without tokens the admin address is read-only",
    cause:
      "A request over TCP would change something, and `admin.tokens` is empty: every user of the machine, and every web page that a browser there shows, can reach the address.",
    remedy:
      "Use the command line (`millrace pause`, `resume`, `snapshot start`), which talks to the daemon through its Unix socket, or set `admin.tokens: [{role: operator, token: ${MILLRACE_TOKEN}}]`.",
  },
  MR1160: {
    title: "The request names another host",
    cause:
      "The `Host` of a request to the admin address is neither a literal IP address, nor `localhost`, nor the host of `admin.listen`, nor one of `admin.hosts`. The request of a web page whose owner points its name at this address would look like that.",
    remedy:
      "Use the address, or list the names under which a proxy or a service forwards to it: `admin: {hosts: [millrace.example.org]}`.",
  },
  MR1161: {
    title: "Too many requests to the admin interface",
    cause:
      "One address sent more than 400 requests at once, or more than 20 a second for a while. A request with a wrong token counts as 21.",
    remedy: "Wait for the seconds that `Retry-After` says, and ask less often. `/healthz` and `/readyz` have no limit.",
  },
  MR1164: {
    title: "The OpenTelemetry receiver does not take metrics or traces",
    cause:
      "The address of `telemetry.otlp.endpoint` can't be reached, does not answer in time, refuses, or its certificate could not be verified. Nothing else is affected: metrics and traces of that time are missing at the receiver.",
    remedy:
      "Check `endpoint` and `headers`, and the receiver. With an authority of your own name its PEM file in `ca`. Millrace sends again at each interval.",
  },
  MR1154: {
    title: "The daemon can't listen on the admin address",
    cause: "Another process has the port, or the address does not belong to this machine.",
    remedy: "Give each daemon its own `admin.listen`, or set it to false.",
  },
} as const satisfies ErrorPages;

const LISTENING_FIXES: Readonly<Record<string, string>> = {
  EADDRINUSE:
    "Another process has this address (`ss -ltnp` shows which): give each daemon its own `admin.listen`, or set it to false.",
  EADDRNOTAVAIL: "This machine does not have this address: correct `admin.listen`, or set it to false.",
  ENOTFOUND: "The name is not known on this machine: correct `admin.listen`, or set it to false.",
  EACCES:
    "The daemon's user may not listen there; ports below 1024 need a privilege: choose another one in `admin.listen`.",
};

export function listenFailed({ host, port }: { readonly host: string; readonly port: number }, cause: unknown) {
  const reason = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "unknown error";
  const message = `admin.listen: ${serverAt(host, port)} can't be listened on (${reason})`;
  const hint = LISTENING_FIXES[reason] ?? pages.MR1154.remedy;
  return new MillraceError({ code: "MR1154", kind: "blocked", message, hint, cause });
}
