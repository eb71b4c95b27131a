"""Programming: programs that are judged by running them in the sandbox (`r1lab.sandbox`).

    code              tiny: `write f , f ( 3 ) = 11 , f ( 5 ) = 17 .`, two examples of x * 3 + 2
                      plain: a function in words, for real models, generated offline
    humaneval         164 functions with a docstring, for evaluation
    mbpp              short functions with asserts, from the hub
    verifiable_code   competition problems with stdin or calls, from the hub

`suite` is the verifier, `monitor` finds programs that know the examples by heart.
"""
