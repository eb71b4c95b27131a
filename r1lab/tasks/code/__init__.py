"""Programming: programs that are judged by running them in the sandbox (`r1lab.sandbox`).

code         tiny: `write f , f ( 3 ) = 11 , f ( 5 ) = 17 .`     def f ( x ) : return x * 3 + 2
             plain: a function described in English, for real models
"""
