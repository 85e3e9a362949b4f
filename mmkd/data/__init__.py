"""How are images repeated exactly, shown in several views, drawn by weights, or labelled?"""
