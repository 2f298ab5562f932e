/**
 * What each call compares before it changes anything, so that a call of a connection that was given up changes nothing,
 * however late it arrives. A claim names the connection that writes. It is stored in the checkpoint key, which a call can
 * compare only in its own cluster slot: in a cluster each slot with rows has a copy of the claim.
 *
 * A connection notes a slot in the checkpoint key before it puts its claim there, and puts it there before it sends rows.
 * So the next claim finds all slots for which calls may still be on their way, and no such call finds a slot without a
 * fence. If the checkpoint key was lost, the copies are looked for.
 */
import { findMillraceError } from "../../../src/core/errors.ts";
import { isWithoutPermission, redisError } from "../errors.ts";
import { randomUUID } from "node:crypto";
import { type Connection, listOf, textOf } from "../connection.ts";
import { takenOver } from "../../kit/held-checkpoint.ts";
import { NO_STEP, overwritten, readCheckpoint } from "../checkpoint.ts";
import { SLOT_COUNT, slotOf, tagOfSlot } from "../keys.ts";
import { keyPages } from "./key-pages.ts";
import { ASKED } from "./script.ts";
import { eachOf } from "../../../src/core/each-of.ts";

/** The stored checkpoint or claim is not what this process wrote last; the sink finds out why. */
export class FenceMismatch extends Error {}

export interface Fence {
  readonly key: Buffer;
  readonly claim: string;
  /** The `stepText` that is stored there; in the copy of a slot NO_STEP. */
  readonly step: string;
}

/** Enough that the nodes never wait for us. */
const SLOTS_AT_ONCE = 512;
/** Claims are taken again above what stands in a slot; only a number that Millrace did not write makes that fail. */
const CLAIMS_MAX = 3;

/**
 * Lease numbers and claims count, so a double is exact. A claim is a number above all earlier ones, and a name that no
 * other has: where the checkpoint key was lost in between, the numbers begin again. Answers with the lease that is stored
 * then; if it is ours, with the claim, the slots that were noted, and whether there was an earlier claim.
 */
const CLAIM = `
local held = redis.call('HMGET', KEYS[1], 'lease', 'claim', 'slots')
if held[1] and tonumber(held[1]) > tonumber(ARGV[1]) then return {held[1]} end
local number = tonumber(string.match(held[2] or '', '^%d+') or '0')
local claim = string.format('%d.%s', math.max(number, tonumber(ARGV[2])) + 1, ARGV[3])
redis.call('HSET', KEYS[1], 'lease', ARGV[1], 'claim', claim)
return {ARGV[1], claim, held[3] or '', held[2] and 1 or 0}
`;

/** Only under the claim that writes. */
const NOTE_SLOTS = `
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'slots', ARGV[2])
return 1
`;

/**
 * Never lower: a claim that comes late must not displace the one that writes. Two of one number differ by name. What
 * another program has put there is replaced.
 */
const RAISE = `${ASKED}
local held = asked('HGET', KEYS[1], 'claim')
if type(held) == 'table' then redis.call('DEL', KEYS[1]) held = false end
local number = held and tonumber(string.match(held, '^%d+') or '0') or 0
if held ~= ARGV[1] and number >= tonumber(string.match(ARGV[1], '^%d+')) then return held end
redis.call('HSET', KEYS[1], 'claim', ARGV[1])
return false
`;

const FORGET = `
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`;

/** Where fences are: in the checkpoint key, and in a cluster in each slot with rows. */
export class FenceKeys {
  readonly checkpointKey: Buffer;
  /** Null if the checkpoint key is in the slot of all rows: on a single server, and under a prefix with a hash tag. */
  readonly slotKeyStart: string | null;

  constructor(prefix: string, name: string, checkpointKey: Buffer, isCluster: boolean) {
    this.checkpointKey = checkpointKey;
    this.slotKeyStart = isCluster && !prefix.includes("{") ? `${prefix}_millrace::f:${name}:` : null;
  }
}

/** The right of one connection to write. Void once another connection has taken one. */
export class Claim {
  readonly name: string;
  readonly #connection: Connection;
  readonly #keys: FenceKeys;
  /** A bit for each slot that holds this claim. */
  #slots: Buffer;

  private constructor(connection: Connection, keys: FenceKeys, name: string, slots: Buffer) {
    this.#connection = connection;
    this.#keys = keys;
    this.name = name;
    this.#slots = slots;
  }

  /** Unless a higher lease is stored. From then on no call of an earlier connection changes anything. */
  static async take(connection: Connection, keys: FenceKeys, lease: string, signal: AbortSignal): Promise<Claim> {
    await readCheckpoint(connection, keys.checkpointKey);
    let above = "0";
    for (let n = 0; n < CLAIMS_MAX; n++) {
      const args = [keys.checkpointKey, lease, above, randomUUID()];
      const reply = listOf(await connection.command("eval", CLAIM, "1", ...args)) ?? [];
      const [holder, name] = reply.slice(0, 2).map(textOf);
      if (name == null) throw takenOver(redisError, holder ?? null, lease);
      const noted = reply[3] === 1 && isSlots(reply[2]) ? reply[2] : await foundSlots(connection, keys, signal);
      const claim = new Claim(connection, keys, name, noted);
      const higher = await claim.#raise(slotsIn(noted));
      if (higher === null) return claim;
      above = /^\d{1,15}/.exec(higher)?.[0] ?? above;
    }
    throw overwritten(keys.checkpointKey);
  }

  /**
   * Of another sink, whose tables were taken over: no call of its connection changes anything from then on. It takes another
   * claim when it has looked at what is still its own. A process of it that comes meanwhile looks anyway.
   */
  static async displace(connection: Connection, keys: FenceKeys, signal: AbortSignal): Promise<void> {
    try {
      const { lease } = await readCheckpoint(connection, keys.checkpointKey);
      if (lease !== null) await Claim.take(connection, keys, lease, signal);
    } catch (error) {
      // Without a right to its keys: it looks with its next heartbeat.
      if (!isWithoutPermission(error) && findMillraceError(error)?.code !== "MR3109") throw error;
    }
  }

  /** The fence of a call that compares the last step too. */
  whole(step: string): Fence {
    return { key: this.#keys.checkpointKey, claim: this.name, step };
  }

  /** The fence that a call with this row's key can compare. */
  beside(key: Uint8Array, step: string): Fence {
    const start = this.#keys.slotKeyStart;
    if (start === null) return this.whole(step);
    return { key: slotKey(start, slotOf(key)), claim: this.name, step: NO_STEP };
  }

  /** Before the first call for rows in these slots. */
  async enter(slots: Iterable<number>): Promise<void> {
    if (this.#keys.slotKeyStart === null) return;
    const added = [...new Set(slots)].filter((slot) => !hasSlot(this.#slots, slot));
    if (added.length === 0) return;
    const noted = Buffer.from(this.#slots);
    for (const slot of added) noted[slot >> 3]! |= 1 << (slot & 7);
    const answer = await this.#connection.command("eval", NOTE_SLOTS, "1", this.#keys.checkpointKey, this.name, noted);
    if (answer !== 1 || (await this.#raise(added)) !== null) throw new FenceMismatch("another claim is stored");
    this.#slots = noted;
  }

  /** Removes the checkpoint, and then the copies of the claim. */
  async forget(): Promise<void> {
    const answer = await this.#connection.command("eval", FORGET, "1", this.#keys.checkpointKey, this.name);
    if (answer !== 1) throw new FenceMismatch("another claim is stored");
    await this.#each(slotsIn(this.#slots), async (key) => void (await this.#connection.command("del", key)));
  }

  /** Answers with a higher claim that stands in a slot, if there is one. */
  async #raise(slots: readonly number[]): Promise<string | null> {
    let higher: string | null = null;
    await this.#each(slots, async (key) => {
      higher = textOf(await this.#connection.command("eval", RAISE, "1", key, this.name)) ?? higher;
    });
    return higher;
  }

  async #each(slots: readonly number[], work: (key: Buffer) => Promise<void>): Promise<void> {
    const start = this.#keys.slotKeyStart;
    if (start === null) return;
    await eachOf(slots, SLOTS_AT_ONCE, (slot) => work(slotKey(start, slot)));
  }
}

/** The slots that hold a copy of any claim. */
async function foundSlots(
  connection: Connection,
  { slotKeyStart }: FenceKeys,
  signal: AbortSignal,
): Promise<Buffer<ArrayBuffer>> {
  const slots = Buffer.alloc(SLOT_COUNT / 8);
  if (slotKeyStart === null) return slots;
  for (const primary of connection.primaries()) {
    for await (const keys of keyPages(primary, slotKeyStart, signal)) {
      for (const slot of keys.map((key) => slotOf(key))) slots[slot >> 3]! |= 1 << (slot & 7);
    }
  }
  return slots;
}

function isSlots(reply: unknown): reply is Buffer {
  return Buffer.isBuffer(reply) && (reply.length === 0 || reply.length === SLOT_COUNT / 8);
}

function hasSlot(slots: Buffer, slot: number): boolean {
  return (slots[slot >> 3]! & (1 << (slot & 7))) !== 0;
}

function slotsIn(noted: Buffer): number[] {
  return Array.from({ length: noted.length * 8 }, (_, slot) => slot).filter((slot) => hasSlot(noted, slot));
}

function slotKey(start: string, slot: number): Buffer {
  return Buffer.from(`${start}{${tagOfSlot(slot)}}`);
}
