"""Which generator has a verifier of ours; the others' scorers run in the sandbox (`scorer`)."""

from r1lab.tasks.base import number
from r1lab.tasks.gym import algorithms, games, geometry, graphs, logic, numeric, reading
from r1lab.tasks.gym.package import MODULES
from r1lab.tasks.gym.reading import Checker, gold, symbols

# One value is right: (how it is read, the generators whose questions are all the same but for the
# problem itself, and those where only numbers and operators make the problem).
_READ = [
    (number, "letter_counting rotten_oranges leg_counting largest_island self_reference maze "
     "rectangle_count binary_alternation circuit_logic",
     "simple_equations count_primes count_bits gcd lcm number_sequence simple_geometry aiw "
     "basic_arithmetic chain_sum products decimal_chain_sum gsm_symbolic"),
    (reading.fraction, "dice", "fraction_simplification"),
    (reading.word, "isomorphic_strings ransom_note course_schedule syllogism zebra_puzzles acre "
     "family_relationships color_cube_rotation mahjong_puzzle tsumego needle_haystack "
     "calendar_arithmetic game_of_life_halting spell_backward figlet_font letter_jumble "
     "sentence_reordering time_intervals", ""),
    (reading.text, "ab string_insertion string_manipulation modulo_grid bf emoji_mystery "
     "caesar_cipher", ""),
    (reading.words, "word_sorting word_sequence_reversal", ""),
    (reading.integers, "path_star arc_1d spiral_matrix string_splitting string_synthesis", ""),
    (reading.grid, "binary_matrix rotate_matrix manipulate_matrix pool_matrix rearc arc_agi", ""),
    (reading.numbers, "number_sorting number_filtering list_functions", ""),
    (reading.same_json, "game_of_life codeio", ""),
]  # fmt: skip

_ONE_VALUE = {
    name: gold(read, same)
    for read, *kinds in _READ
    for names, same in zip(kinds, (str, symbols), strict=True)
    for name in names.split()
}

CHECKERS: dict[str, Checker] = dict(_ONE_VALUE)
for _part in (logic, algorithms, graphs, games, geometry, numeric):
    CHECKERS |= _part.CHECKERS

SCORED = tuple(name for name in MODULES if name not in CHECKERS)
"""Judged by reasoning-gym's own scorer, in the sandbox."""
