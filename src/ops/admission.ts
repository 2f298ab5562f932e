import { timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { failure } from "./failure.ts";

export interface Token {
  readonly role: "viewer" | "operator";
  readonly token: string;
}

/**
 * How requests come in. Everybody who can open the Unix socket is the operator already. Every local user, and through a
 * browser every web page, can reach a TCP address: without tokens it only shows data, and it answers only to its own
 * host names.
 */
export type Entrance =
  | { readonly kind: "socket" }
  | { readonly kind: "tcp"; readonly tokens: readonly Token[]; readonly hosts: readonly string[] };

/** Open to everybody: supervisors ask here. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);
/** The user agent of our command line, with the system's name of its user. */
const COMMAND_LINE = /^millrace \(([^()]*)\)$/;

/** Answers refused requests; the routes answer all others. */
export async function admit(request: FastifyRequest, reply: FastifyReply, entrance: Entrance): Promise<void> {
  if (entrance.kind === "socket") return;
  const { tokens, hosts } = entrance;
  if (!isOurName(request.headers.host, hosts)) {
    await reply.code(403).send(failure("MR1160", "the request is for a host of another name"));
  } else if (isForeign(request)) {
    await reply.code(403).send(failure("MR1157", "a web page of another origin sent this"));
  } else if (tokens.length > 0) {
    if (!OPEN_PATHS.has(request.routeOptions.url ?? "")) await admitToken(request, reply, tokens);
  } else if (!isLook(request)) {
    await reply.code(401).send(failure("MR1159", "without admin.tokens the TCP address only shows"));
  }
}

async function admitToken(request: FastifyRequest, reply: FastifyReply, tokens: readonly Token[]): Promise<void> {
  const known = tokenOf(request, tokens);
  if (known === undefined) {
    await reply.code(401).header("www-authenticate", "Bearer").send(failure("MR1151", "a bearer token is wanted"));
  } else if (!isLook(request) && known.role !== "operator") {
    await reply.code(403).send(failure("MR1152", "this token may look, not act"));
  }
}

/** The sender of a request for the log, without the token. */
export function askerOf(request: FastifyRequest, entrance: Entrance): string {
  if (entrance.kind === "socket") {
    const user = COMMAND_LINE.exec(request.headers["user-agent"] ?? "")?.[1];
    return user === undefined ? "the Unix socket" : `${user} by the Unix socket`;
  }
  const known = tokenOf(request, entrance.tokens);
  const which = known === undefined ? "nobody" : `admin.tokens.${entrance.tokens.indexOf(known)}`;
  return `${which} from ${request.ip}`;
}

export function isLook({ method }: FastifyRequest): boolean {
  return method === "GET" || method === "HEAD";
}

/**
 * A foreign domain name may point to this address; a browser then treats its page as the same origin. Literal addresses
 * can't be redirected that way. A program may omit the header, a browser does not.
 */
function isOurName(host: string | undefined, hosts: readonly string[]): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  if (isIP(name) === 4 || (name.startsWith("[") && isIP(name.slice(1, -1)) === 6)) return true;
  return name === "localhost" || hosts.includes(name);
}

/** Browsers name the page that sends a request. */
function isForeign({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined && URL.parse(headers.origin)?.host !== headers.host;
}

function tokenOf(request: FastifyRequest, tokens: readonly Token[]): Token | undefined {
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  return given === undefined ? undefined : tokens.find(({ token }) => equal(token, given));
}

/** Takes constant time, so that nobody can guess a token byte by byte. */
function equal(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
