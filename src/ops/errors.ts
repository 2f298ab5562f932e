import { type ErrorPages, raising } from "../core/errors.ts";
import { serverAt } from "../core/system-errors.ts";

export const pages = {
  MR1151: {
    title: "The admin interface needs a token",
    remedy:
      "Send `Authorization: Bearer TOKEN` with one of the tokens of millrace.yaml. A browser that opens the dashboard asks for it.",
    cause: "`admin.tokens` is set and the request had no bearer token, or one that is not listed.",
  },
  MR1152: {
    title: "The request may only read",
    remedy:
      "Use a token with `role: operator`: `admin.tokens: [{role: operator, token: ${MILLRACE_TOKEN}}]`. Or use the command line, which talks to the daemon through its Unix socket.",
    cause: "A viewer's token, or a request over TCP without `admin.tokens`, would change something.",
  },
  MR1154: {
    title: "The daemon can't listen on the admin address",
    remedy: "Give each daemon its own `admin.listen`, or set it to false.",
    cause: "Another process has the port, or the address does not belong to this machine.",
    seen: "log",
  },
  MR1155: {
    title: "The request is none of the admin interface's",
    remedy:
      "Send JSON with `Content-Type: application/json` to a path of `/api/v1/openapi.json`; the message says what is wrong. Queries, and comparisons with options, are served on the Unix socket alone, for the command line.",
    cause:
      "The path or method does not exist, the body is not JSON, has an unknown or wrong field, is larger than 256 KB, or arrived too slowly.",
  },
  MR1157: {
    title: "The request comes from elsewhere",
    remedy:
      "Send it from a program, such as curl, or from a page of the same host and port. Names under which a proxy forwards to the address go into `admin: {hosts: [millrace.example.org]}`.",
    cause:
      "A web page of another origin sent it, or its `Host` is neither an IP address, nor `localhost`, nor that of `admin.listen` or `admin.hosts`, as a page whose owner points its name here would have.",
  },
  MR1158: {
    title: "A receiver does not take messages, metrics or traces",
    remedy:
      "Check the URL (`notify.webhook`, `telemetry.otlp.endpoint`), its headers and the server behind it; with an authority of your own name its PEM file in `ca`. `millrace status` says what is not well.",
    cause:
      "The address could not be reached for about two minutes, did not answer 2xx, or its certificate could not be verified. Messages are told later; metrics of that time are missing at the receiver.",
  },
  MR1161: {
    title: "Too many requests to the admin interface",
    remedy: "Wait for the seconds that `Retry-After` says, and ask less often. `/healthz` and `/readyz` have no limit.",
    cause:
      "One address sent more than 400 requests at once, or more than 20 a second for a while. A request with a wrong token counts as 21.",
  },
} as const satisfies ErrorPages;

export const opsError = raising(pages);

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
  return opsError("MR1154", message, { kind: "blocked", hint: LISTENING_FIXES[reason], cause });
}
