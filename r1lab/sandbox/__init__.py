"""Where code and text that nobody vouches for are handled: in processes of their own.

worker    a process that answers questions about such text, under limits, and can be killed
"""
