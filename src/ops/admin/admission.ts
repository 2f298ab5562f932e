import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { PAGE_PATH } from "../dashboard/page.ts";
import type { RateLimit } from "./rate-limit.ts";

export interface Token {
  readonly role: "viewer" | "operator";
  /** Whose it is. */
  readonly name: string | null;
  /** Its hash, in hexadecimal digits: the token itself is kept nowhere. */
  readonly sha256: string;
}

/**
 * How requests come in. Everybody who can open the Unix socket is the operator already. Every local user, and through a
 * browser every web page, can reach a TCP address: without tokens it only shows data, and it answers only to its own
 * host names.
 */
export type Entrance =
  | { readonly kind: "socket" }
  | {
      readonly kind: "tcp";
      readonly tokens: readonly Token[];
      readonly hosts: readonly string[];
      readonly limit: RateLimit;
    };

/** Applications ask here at each of their commits: what they may send is bounded by the connections. */
export const FRESH_PATH = "/api/v1/fresh";
/** Open to everybody: supervisors ask here. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);
/** The user agent of our command line, with the system's name of its user. */
const COMMAND_LINE = /^millrace \(([^()]*)\)$/;

/** A wrong token costs as much as so many requests: nobody tries many. */
const WRONG_TOKEN_COST = 20;

/** Answers refused requests; the routes answer all others. */
export async function admit(request: FastifyRequest, reply: FastifyReply, entrance: Entrance): Promise<void> {
  if (entrance.kind === "socket") return;
  const { tokens, hosts, limit } = entrance;
  const path = request.routeOptions.url ?? "";
  const isOpen = OPEN_PATHS.has(path);
  const isUnlimited =
    isOpen || (path === FRESH_PATH && (tokens.length === 0 || tokenOf(request, tokens) !== undefined));
  const waitSeconds = isUnlimited ? 0 : limit.waitSeconds(request.ip);
  if (waitSeconds > 0) {
    await reply
      .code(429)
      .header("retry-after", waitSeconds)
      .send(failure("MR1161", "too many requests from this address"));
  } else if (!isOurName(request.headers.host, hosts)) {
    await reply.code(403).send(failure("MR1157", "the request is for a host of another name"));
  } else if (isForeign(request)) {
    await reply.code(403).send(failure("MR1157", "a web page of another origin sent this"));
  } else if (tokens.length > 0) {
    if (!isOpen) await admitToken(request, reply, entrance);
  } else if (!isLook(request)) {
    await reply.code(401).send(failure("MR1152", "without admin.tokens the TCP address only shows"));
  }
}

async function admitToken(
  request: FastifyRequest,
  reply: FastifyReply,
  { tokens, limit }: Extract<Entrance, { readonly kind: "tcp" }>,
): Promise<void> {
  const known = tokenOf(request, tokens);
  if (known === undefined) {
    if (request.headers.authorization !== undefined) limit.charge(request.ip, WRONG_TOKEN_COST);
    void reply.code(401).header("www-authenticate", "Bearer");
    // A browser sends no token of its own: it gets the page, which holds no data and asks for the token.
    if (request.routeOptions.url === PAGE_PATH && request.headers.accept?.includes("text/html") === true) return;
    await reply.send(failure("MR1151", "a bearer token is wanted"));
  } else if (!isLook(request) && known.role !== "operator") {
    await reply.code(403).send(failure("MR1152", "this token may look, not act"));
  }
}

/** The sender of a request, without the token. */
export function askerOf(request: FastifyRequest, entrance: Entrance): { readonly who: string; readonly via: string } {
  if (entrance.kind === "socket") {
    const user = COMMAND_LINE.exec(request.headers["user-agent"] ?? "")?.[1];
    return user === undefined ? { who: "unknown", via: "socket" } : { who: user, via: "command line" };
  }
  const known = tokenOf(request, entrance.tokens);
  const which = known === undefined ? "nobody" : (known.name ?? `admin.tokens.${entrance.tokens.indexOf(known)}`);
  return { who: which, via: `HTTP from ${request.ip}` };
}

/** What the sender may do; null: no tokens are configured. */
export function roleOf(request: FastifyRequest, entrance: Entrance): Token["role"] | null {
  return entrance.kind === "socket" ? "operator" : (tokenOf(request, entrance.tokens)?.role ?? null);
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

/** Compares the hash with that of every token in constant time, so that nobody can guess a token byte by byte. */
function tokenOf(request: FastifyRequest, tokens: readonly Token[]): Token | undefined {
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (given === undefined) return undefined;
  const digest = createHash("sha256").update(given).digest();
  let found: Token | undefined;
  for (const token of tokens) if (timingSafeEqual(Buffer.from(token.sha256, "hex"), digest)) found = token;
  return found;
}

/** The form of every refusal of the admin interface. */
export function failure(code: string, message: string, hint: string | null = null) {
  return { error: { code, message, hint } };
}
