/** The processes that apply the shares of one configuration, as a group of Kafka. */
import { type Clock, deadline, pause } from "../../../src/core/clock.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { assign, type Claim, type Group, type GroupMember } from "../../../src/core/sharing/group.ts";
import { type Division, divisionText } from "../../../src/core/sharing/share.ts";
import type { ClusterAccess } from "../client/cluster.ts";
import { apiIdsOf } from "../client/failures.ts";
import { classifySource, logError } from "../errors.ts";
import { type GroupName, Membership, type MemberSubscriptions } from "../client/group-member.ts";

const HEARTBEAT_MS = 1_000;
const LEAVE_MS_MAX = 5_000;

interface ShareGroupSettings {
  readonly clock: Clock;
  readonly cluster: Pick<ClusterAccess, "connect">;
  readonly id: string;
  readonly division: Division;
}

export class ShareGroup implements Group {
  readonly #settings: ShareGroupSettings;
  /** Empty: the group does not know this process. */
  #memberId = "";

  constructor(settings: ShareGroupSettings) {
    this.#settings = settings;
  }

  async run(member: GroupMember, signal: AbortSignal): Promise<void> {
    const { clock } = this.#settings;
    let heardMs: number | null = null;
    const heard = (): void => void (heardMs = clock.elapsed());
    try {
      while (!signal.aborted) {
        try {
          await this.#take(member, heard, signal);
        } catch (error) {
          if (signal.aborted) return;
          const known = this.#meaning(error, signal);
          if (known.kind === "fatal" || heardMs === null) throw known;
          member.cutOff(clock.elapsed() - heardMs, known);
          await pause(clock, HEARTBEAT_MS, signal);
        }
      }
    } finally {
      await this.#leave();
    }
  }

  /** Over one connection. */
  async #take(member: GroupMember, heard: () => void, signal: AbortSignal): Promise<void> {
    const { clock, cluster: access } = this.#settings;
    await using cluster = await access.connect(signal);
    const membership = await Membership.at(cluster, this.#group, this.#memberId, signal);
    try {
      for (;;) {
        const claimed = member.held();
        const told = textOf({ shares: claimed, leaves: member.leaves() });
        const given = await membership.join(told, (all) => this.#lead(all), signal);
        heard();
        if (given === null) continue;
        member.assign(toldIn(given).held);
        const isAsClaimed = (): boolean => claimed.every((share) => member.held().includes(share));
        while (isAsClaimed()) {
          await clock.sleep(HEARTBEAT_MS, signal);
          const isStill = await membership.heartbeat(signal);
          heard();
          if (!isStill) break;
        }
      }
    } catch (error) {
      // It was silent for too long. Else the others would wait for it in vain if it came back as a stranger.
      this.#memberId = apiIdsOf(error).includes("UNKNOWN_MEMBER_ID") ? "" : membership.memberId;
      throw error;
    }
  }

  get #group(): GroupName {
    const { id, division } = this.#settings;
    return { id, protocol: `shares ${divisionText(division)}` };
  }

  #lead(told: MemberSubscriptions): ReadonlyMap<string, Buffer> {
    const claims = [...told].map(([member, metadata]): Claim => ({ member, ...toldIn(metadata) }));
    const assigned = assign(claims, this.#settings.division.count);
    return new Map([...assigned].map(([member, shares]) => [member, textOf({ shares, leaves: false })]));
  }

  /**
   * Without it the others wait until the session is over. Over a connection of its own: a broker reads nothing more from one
   * on which a member waits for the others.
   */
  async #leave(): Promise<void> {
    if (this.#memberId === "") return;
    const { clock, cluster: access } = this.#settings;
    using limit = deadline(clock, LEAVE_MS_MAX);
    try {
      await using cluster = await access.connect(limit.signal);
      const membership = await Membership.at(cluster, this.#group, this.#memberId, limit.signal);
      await membership.leave(limit.signal);
    } catch {
      // The group can't be reached.
    }
    this.#memberId = "";
  }

  #meaning(error: unknown, signal: AbortSignal): MillraceError {
    if (!apiIdsOf(error).includes("INCONSISTENT_GROUP_PROTOCOL")) return classifySource(error, signal);
    const { id, division } = this.#settings;
    const what = `the processes that run in group ${id} have other shares than \`shares: ${divisionText(division)}\``;
    return logError("MR1330", "fatal", what, { cause: error });
  }
}

function textOf(value: { readonly shares: readonly number[]; readonly leaves: boolean }): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** A member that tells nothing of use holds nothing. */
function toldIn(bytes: Buffer): Omit<Claim, "member"> {
  const told: unknown = bytes.length === 0 ? null : JSON.parse(bytes.toString("utf8"));
  const { shares = [], leaves = false }: { readonly shares?: unknown; readonly leaves?: unknown } =
    typeof told === "object" && told !== null ? told : {};
  const held = Array.isArray(shares) ? shares.filter((one): one is number => Number.isSafeInteger(one)) : [];
  return { held, leaves: leaves === true };
}
