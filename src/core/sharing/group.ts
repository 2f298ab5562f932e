/** The processes that apply the shares of one configuration, as each of them sees the others. */
export interface Group {
  /**
   * Joins, and tells the member which shares it has, until aborted; then it leaves. A group that can't be reached any more is
   * tried again for as long as it takes; before it was joined, that is the error.
   */
  run(member: GroupMember, signal: AbortSignal): Promise<void>;
}

export interface GroupMember {
  /** The shares that this process was given and has not ended yet. No other process gets one of them meanwhile. */
  readonly held: () => readonly number[];
  /** It ends what it holds, and is to be given nothing more. */
  readonly leaves: () => boolean;
  /** From now on it has these. Those that it holds besides are to be ended. */
  readonly assign: (shares: readonly number[]) => void;
  /** For so long the group has not answered: others may have been given its shares. */
  readonly cutOff: (ms: number, error: Error) => void;
}

/** What a member tells the others. */
export interface Claim {
  readonly member: string;
  readonly held: readonly number[];
  /** See GroupMember. */
  readonly leaves: boolean;
}

/**
 * Which shares each member has next. Each keeps what it holds as far as its part of all allows; one that leaves has no part. A
 * share that changes hands is nobody's until the one who held it has ended it, and claims it no more.
 */
export function assign(claims: readonly Claim[], count: number): ReadonlyMap<string, readonly number[]> {
  const members = claims.toSorted((a, b) => (a.member < b.member ? -1 : 1));
  const holders = new Map<number, string>();
  for (const { member, held } of members)
    for (const share of held) if (share <= count && !holders.has(share)) holders.set(share, member);
  const staying = members.filter(({ leaves }) => !leaves);
  const holdings = staying.map(({ member }) => {
    const own = [...holders].filter(([, holder]) => holder === member).map(([share]) => share);
    return { member, own: own.toSorted((a, b) => a - b) };
  });
  // Those that hold the most keep the odd ones.
  const byHolding = holdings.toSorted((a, b) => b.own.length - a.own.length);
  const least = Math.floor(count / Math.max(1, staying.length));
  const oddCount = count % Math.max(1, staying.length);
  const parts = byHolding.map(({ member, own }, i) => {
    const size = least + (i < oddCount ? 1 : 0);
    return { member, size, shares: own.slice(0, size) };
  });
  const free = Array.from({ length: count }, (_, i) => i + 1).filter((share) => !holders.has(share));
  for (const { size, shares } of parts) shares.push(...free.splice(0, size - shares.length));
  const given = new Map(parts.map(({ member, shares }) => [member, shares]));
  return new Map(members.map(({ member }) => [member, given.get(member) ?? []]));
}
