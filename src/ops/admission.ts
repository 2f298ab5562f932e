import { timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { failure } from "./failure.ts";

export interface Token {
  readonly role: "viewer" | "operator";
  readonly token: string;
}

/**
 * How requests come in. Who can open the Unix socket is the operator already. A TCP address answers every user of the
 * machine and, through a browser, every web page: without tokens it only shows, and it answers to no name but its own.
 */
export type Entrance =
  | { readonly kind: "socket" }
  | { readonly kind: "tcp"; readonly tokens: readonly Token[]; readonly hosts: readonly string[] };

/** Open to everybody: what a supervisor asks for. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);
/** What our own command line calls itself: the system's name of who runs it. */
const COMMAND_LINE = /^millrace \(([^()]*)\)$/;

/** Answers what may not come in; leaves everything else to its route. */
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

/** Who asked, for the log: without the token. */
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
 * A name that somebody else owns may lead to this address too, and a browser then takes that page's requests for those of
 * one origin. Nobody can point a literal address elsewhere; a program may leave the header out, a browser does not.
 */
function isOurName(host: string | undefined, hosts: readonly string[]): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  if (isIP(name) === 4 || (name.startsWith("[") && isIP(name.slice(1, -1)) === 6)) return true;
  return name === "localhost" || hosts.includes(name);
}

/** Browsers name the page that makes them send something. */
function isForeign({ headers }: FastifyRequest): boolean {
  return headers.origin !== undefined && URL.parse(headers.origin)?.host !== headers.host;
}

function tokenOf(request: FastifyRequest, tokens: readonly Token[]): Token | undefined {
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  return given === undefined ? undefined : tokens.find(({ token }) => equal(token, given));
}

/** In constant time, so that a token can't be guessed byte by byte. */
function equal(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
