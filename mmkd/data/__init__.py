"""How are images repeated exactly, shown in several views, or drawn by weights?"""
