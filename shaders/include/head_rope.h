// Rotary embedding of heads: how one threadgroup makes the angles of a token and turns all of its heads.
#pragma once

#include "include/rope.h"
#include "include/rows.h"
#include "params/head_rope.h"

// What turns a head, the same for all heads of a token: weight and angles multiplied out once, so that
//   y[i] = own[i] * v[i] + other[i] * v[partner of i]
// for the v that turns. `own` has head_dim floats; `other` has two for each pair: of its first, of its second
// element.
struct Turn {
  threadgroup float* own;
  threadgroup float* other;
};

inline Turn turn_in(threadgroup float* memory, uint head_dim) { return Turn{memory, memory + head_dim}; }

template <bool weighted, typename W>
inline float weight_at(const device W* weight, uint i) {
  return weighted ? float(weight[i]) : 1.0f;
}

template <bool weighted, typename W>
inline void set_pair(Turn turn, constant HeadRopeParams& params, const device W* weight, uint i, float cosine,
                     float sine) {
  const uint partner = i + params.pair_offset;
  const float first = weight_at<weighted>(weight, i), second = weight_at<weighted>(weight, partner);
  turn.own[i] = first * cosine;
  turn.own[partner] = second * cosine;
  turn.other[i] = -second * sine;
  turn.other[params.half_rope_dim + i] = first * sine;
}

// Elements that have no partner: the rest of each half, or of the head.
template <bool weighted, typename W>
inline void set_unturned(Turn turn, constant HeadRopeParams& params, const device W* weight, Team team) {
  const uint pairs = params.half_rope_dim, offset = params.pair_offset;
  for (uint i = pairs + team.thread_index; i < offset; i += team.threads) {
    turn.own[i] = weight_at<weighted>(weight, i);
  }
  for (uint i = offset + pairs + team.thread_index; i < params.head_dim; i += team.threads) {
    turn.own[i] = weight_at<weighted>(weight, i);
  }
}

// One pair, from the values that turn.
inline void turn_pair(threadgroup float* row, Turn turn, uint i, uint pairs, uint offset, float a, float b) {
  row[i] = a * turn.own[i] + b * turn.other[i];
  row[i + offset] = b * turn.own[i + offset] + a * turn.other[pairs + i];
}

// Makes the Turn of a token from its rows of the tables.
template <bool weighted, typename W>
inline Turn cached_turn(constant HeadRopeParams& params, const device W* weight, const device float* cosine,
                        const device float* sine, threadgroup float* memory, uint token, Team team) {
  const Turn turn = turn_in(memory, params.head_dim);
  const ulong table = ulong(token) * params.table_stride;
  for (uint i = team.thread_index; i < params.half_rope_dim; i += team.threads) {
    set_pair<weighted>(turn, params, weight, i, cosine[table + i], sine[table + i]);
  }
  set_unturned<weighted>(turn, params, weight, team);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return turn;
}

// The same, with the angles of its position.
template <bool weighted, typename W>
inline Turn positional_turn(constant HeadRopeParams& params, const device W* weight,
                            const device uint* positions, const device float2* frequencies,
                            const device float* factors, threadgroup float* memory, uint token, Team team) {
  const Turn turn = turn_in(memory, params.head_dim);
  const float position = position_value(positions[token], params.positions_signed != 0);
  const uint pairs = params.half_rope_dim;
  // One loop a step: each is simple enough to vectorise. A thread comes back to its own elements only.
  if (params.has_freq_factors != 0) {
    for (uint i = team.thread_index; i < pairs; i += team.threads) {
      turn.own[i] = rope_angle(position, frequencies[i], factors[i]);
    }
  } else {
    for (uint i = team.thread_index; i < pairs; i += team.threads)
      turn.own[i] = rope_angle(position, frequencies[i]);
  }
  for (uint i = team.thread_index; i < pairs; i += team.threads) {
    float cosine;
    turn.other[i] = precise::sincos(turn.own[i], cosine);
    turn.own[i] = cosine;
  }
  for (uint i = team.thread_index; i < pairs; i += team.threads) {
    set_pair<weighted>(turn, params, weight, i, turn.own[i], turn.other[i]);
  }
  set_unturned<weighted>(turn, params, weight, team);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return turn;
}

#define TOKEN_ARGUMENTS                                                                     \
  threadgroup float *rows [[threadgroup(0)]], threadgroup float *memory [[threadgroup(1)]], \
      uint token [[threadgroup_position_in_grid]], uint tokens [[threadgroups_per_grid]], TEAM_ARGUMENTS
